"""`sluice sql` is answered by the running table job: as by a Spark of its own, only to who may, and never at the job's expense."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from jobs import sql
from jobs.session import WAREHOUSE
from jobs.sql_client import QueryFailed, ask, server_file
from jobs.sql_server import SqlServer
from pipeline.settings import Settings
from tests.jobs.running_job import RunningJob, endpoint, record
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

TABLE = ("served", "logs", "asked")
COUNT = "SELECT count(*) AS n FROM served.logs.asked_request_response"
# Longer than any test waits.
ENDLESS = "SELECT sum(a.id * b.id) FROM range(100000000) a CROSS JOIN range(100000000) b"


@pytest.fixture(scope="module")
def server(job: RunningJob) -> Iterator[Settings]:
    """A server beside the running job, whose tables hold two requests."""
    job.produce([endpoint("asked", TABLE), record(TABLE), record(TABLE)])
    job.settle()
    running = SqlServer(job.settings, job.spark, job.run.eraser.ask)
    running.start()
    yield job.settings
    running.stop()
    assert ask(COUNT, job.settings, "csv") is None


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_it_answers_as_a_spark_of_its_own_does(server: Settings, output: sql.Output) -> None:
    assert ask(COUNT, server, output) == sql.run(COUNT, server, output)
    assert ask(COUNT, server, "csv") == "n\n2"


def test_code_is_compiled_only_for_queries_that_read_much(server: Settings, job: RunningJob) -> None:
    session = job.spark.newSession()
    session.conf.set(WAREHOUSE, str(server.warehouse_dir))
    much = "SELECT count(*) AS n FROM range(100000000)"
    for query, count, compiled in ((COUNT, 2, "false"), (much, 100_000_000, "true"), (COUNT, 2, "false")):
        assert sql.run_in(session, query, server.warehouse_dir, "csv") == f"n\n{count}"
        assert session.conf.get("spark.sql.codegen.wholeStage") == compiled
    # A statement that reads nothing, and a table that is not Delta's.
    assert "catalog" in sql.run_in(session, "SHOW CATALOGS", server.warehouse_dir, "csv")
    assert sql.run_in(session, "SELECT id FROM VALUES (7) AS t(id)", server.warehouse_dir, "csv") == "id\n7"


def test_a_wrong_query_says_what_is_wrong(server: Settings) -> None:
    with pytest.raises(QueryFailed, match="there is no table served.logs.aksed_request_response; did you mean"):
        ask(COUNT.replace("asked", "aksed"), server, "csv")


def test_nobody_answers_for_another_warehouse_or_data_folder(server: Settings, tmp_path: Path) -> None:
    assert ask(COUNT, server.model_copy(update={"warehouse": tmp_path}), "csv") is None
    assert ask(COUNT, server.model_copy(update={"data": tmp_path}), "csv") is None


def test_only_who_can_read_the_key_is_answered(server: Settings, tmp_path: Path) -> None:
    file = server_file(server.data)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = json.loads(file.read_text())
    other = server.model_copy(update={"data": tmp_path, "warehouse": server.warehouse_dir})
    server_file(tmp_path).parent.mkdir()
    server_file(tmp_path).write_text(json.dumps({**told, "key": "00" * 32}))
    assert ask(COUNT, other, "csv") is None


def test_a_client_that_says_nothing_holds_up_no_other(server: Settings) -> None:
    with socket.create_connection(("127.0.0.1", json.loads(server_file(server.data).read_text())["port"])):
        assert ask(COUNT, server, "csv") == "n\n2"


def test_a_client_that_goes_away_ends_its_query(server: Settings, job: RunningJob) -> None:
    told = json.loads(server_file(server.data).read_text())
    tracker = job.spark.sparkContext.statusTracker()
    job.crash()
    wait_for(lambda: not tracker.getActiveJobsIds(), 30.0)
    client = Client(("127.0.0.1", told["port"]), "AF_INET", authkey=bytes.fromhex(told["key"]))
    client.send_bytes(json.dumps({"query": ENDLESS, "output": "csv"}).encode())
    wait_for(lambda: bool(tracker.getActiveJobsIds()), 30.0)
    client.close()
    wait_for(lambda: not tracker.getActiveJobsIds(), 30.0)
    job.start()


def test_a_result_that_would_fill_the_heap_is_refused(server: Settings) -> None:
    with pytest.raises(QueryFailed, match="the result has .* MiB, and the table job hands out 64 at most"):
        ask("SELECT id, repeat(cast(id AS string), 100000) FROM range(4000)", server, "csv")
    assert ask(COUNT, server, "csv") == "n\n2"
