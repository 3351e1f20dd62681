"""The same jobs by spark-submit, on a master with two workers: every row once, whichever executor dies."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet
import pytest

import jobs.submit
from jobs.sql_client import QueryFailed, ask
from jobs.status import status_file
from pipeline.records import InferenceRecord
from pipeline.settings import Settings
from pipeline.stack.process import ChildProcess
from pipeline.topics import HOUR_MS, RECORDS
from tests.jobs.running_job import NOW_MS, endpoint, produce, record
from tests.jobs.spark_cluster import SparkCluster
from tests.own_broker import own_broker
from tests.waiting import wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

TABLE = ("spread", "logs", "chat")
IDS = (
    "SELECT request_id AS id FROM spread.logs.chat_request_response",
    "SELECT databricks_request_id AS id FROM system.serving.endpoint_usage",
)
FIRST, SECOND = ([f"{kind}{number}" for number in range(300)] for kind in "ab")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    made = SparkCluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Those of a data folder whose broker runs."""
    with own_broker(tmp_path_factory.mktemp("shared") / "data") as settings:
        yield settings


@pytest.fixture(scope="module")
def tables(settings: Settings, cluster: SparkCluster) -> ChildProcess:
    """The table job, with the UI that Sluice leaves out unless it is asked for: what is submitted wins."""
    ui = ("--conf", "spark.ui.enabled=true", "--conf", f"spark.ui.port={cluster.ui_port}")
    command = ("tables", "--data", str(settings.data), "--kafka", settings.kafka, "--trigger-s", "0.2")
    job = cluster.submit(*command, options=ui)

    def is_ready() -> bool:
        assert job.exit_code() is None, cluster.log_of("tables")
        return "SLUICE READY tables" in cluster.log_of("tables")

    wait_for(is_ready, 150.0)
    return job


def made(request_id: str) -> InferenceRecord:
    """A record of one of the last five hours."""
    hours_ago = int(request_id[1:]) % 5
    return record(TABLE, request_id=request_id, usage_tracking=True, timestamp_ms=NOW_MS - hours_ago * HOUR_MS)


def ids(query: str, settings: Settings) -> list[str]:
    """The request ids that the running job answers with, sorted; none where there is no table yet."""
    try:
        answer = ask(query, settings, "json")
    except QueryFailed:
        return []
    assert answer is not None, "the table job answers no query"
    return sorted(row["id"] for row in json.loads(answer))


def check_rows(settings: Settings, request_ids: list[str]) -> None:
    """Wait until so many rows are there, in both tables, and hold their ids against those that were sent."""
    for query in IDS:
        wait_for(lambda query=query: len(ids(query, settings)) >= len(request_ids), 60.0)
        assert ids(query, settings) == sorted(request_ids)


def test_every_record_becomes_one_row_and_both_executors_work(settings: Settings, cluster: SparkCluster, tables: ChildProcess) -> None:
    records = [made(request_id) for request_id in FIRST]
    produce(settings, [endpoint("chat", TABLE), *records, *records[:50], (RECORDS.name, b"k", b"not a record")])
    check_rows(settings, FIRST)
    wait_for(lambda: ask("SELECT count(*) AS n FROM system.serving.dead_letters", settings, "csv") == "n\n1", 30.0)
    executors = cluster.executors()
    driver = executors.pop("driver")
    assert driver["totalTasks"] == 0
    assert len(executors) == 2 and all(one["completedTasks"] > 0 for one in executors.values()), executors


def test_hours_are_utc_whatever_the_machines_zone(settings: Settings, tables: ChildProcess) -> None:
    wanted = Counter(f"{datetime.fromtimestamp(made(i).timestamp_ms / 1000, UTC):%Y-%m-%d %H:00:00}" for i in FIRST)

    def counted() -> dict[str, int]:
        hours = ask("SELECT cast(hour AS string) AS hour, requests FROM system.serving.usage_hourly", settings, "json")
        return {row["hour"]: row["requests"] for row in json.loads(hours or "[]")}

    wait_for(lambda: counted() == wanted, 30.0)


def test_an_executor_that_dies_takes_nothing_along_and_nothing_comes_twice(
    settings: Settings, cluster: SparkCluster, tables: ChildProcess
) -> None:
    before = set(cluster.executors()) - {"driver"}
    produce(settings, [made(request_id) for request_id in SECOND[:150]])
    os.kill(cluster.executor_pids()[0], signal.SIGKILL)
    produce(settings, [made(request_id) for request_id in SECOND[150:]])
    check_rows(settings, FIRST + SECOND)
    # The worker has started another one in its place.
    wait_for(lambda: len(after := set(cluster.executors()) - {"driver"}) == 2 and after != before, 30.0)


def test_it_stops_in_order_and_the_dashboard_is_computed_there_too(settings: Settings, cluster: SparkCluster, tables: ChildProcess) -> None:
    os.kill(json.loads(status_file(settings.data).read_text())["pid"], signal.SIGTERM)
    wait_for(lambda: tables.exit_code() is not None, 60.0)
    assert tables.exit_code() == 0, cluster.log_of("tables")
    dashboard = cluster.submit("dashboard", "--data", str(settings.data))
    wait_for(lambda: dashboard.exit_code() is not None, 90.0)
    assert dashboard.exit_code() == 0, cluster.log_of("dashboard")
    figures = pyarrow.parquet.read_table(settings.warehouse_dir / "system/serving/dashboard_hourly")
    assert sum(figures["requests"].to_pylist()) == len(FIRST + SECOND)
    assert settings.dashboard_file.is_file()
    wait_for(lambda: len(cluster.master()["completedapps"]) == 2, 30.0)


def test_who_forgets_the_jars_is_told_of_them(cluster: SparkCluster, tmp_path: Path) -> None:
    script = str(Path(jobs.submit.__file__).parent / "sluice.py")
    python = ("--conf", f"spark.pyspark.python={sys.executable}")
    bare = cluster.submit_script(script, "dashboard", "--data", str(tmp_path), log="bare", options=("--master", "local[1]", *python))
    wait_for(lambda: bare.exit_code() is not None, 60.0)
    assert bare.exit_code() == 1
    assert "spark-submit was not told of Sluice's jars" in cluster.log_of("bare")
