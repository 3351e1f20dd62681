"""What the table job does when something is broken, lost or killed: nothing is left out, nothing is doubled, and it says what is wrong."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from jobs import fanout, upkeep
from jobs.delta import DeltaFolder
from jobs.table_job import TableJobFailed, _alone
from pipeline.kafka.connection import client_options
from pipeline.records import InferenceRecord
from pipeline.topics import DAY_MS, RECORDS
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, ids, record
from tests.jobs.test_table_job import any_record, check_hourly

pytestmark = pytest.mark.timeout(240)

LANDING = "system.internal.landing"
TEXT = "a text that no log may hold"


@pytest.fixture(autouse=True)
def running(job: RunningJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test finds the job running and caught up; what can't be written is tried again at once."""
    monkeypatch.setattr(fanout, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(fanout, "LONGEST_PAUSE_S", 0.5)
    if job.table_job is None or not job.run.query.isActive:
        job.restart()
    yield


@contextmanager
def obstacle(folder: Path) -> Iterator[None]:
    """A file stands where a table's folder was, or should be."""
    aside = folder.with_name(f".aside-{folder.name}")
    if folder.exists():
        folder.rename(aside)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    try:
        yield
    finally:
        folder.unlink()
        if aside.exists():
            aside.rename(folder)


def everything(job: RunningJob) -> dict[str, list[str]]:
    """All rows of all tables but the landing table, as text."""
    tables = sorted(".".join(log.parent.relative_to(job.warehouse).parts) for log in job.warehouse.glob("*/*/*/_delta_log"))
    return {table: sorted(str(sorted(row.items(), key=str)) for row in job.rows(table)) for table in tables if table != LANDING}


def blocked_record(table: tuple[str, str, str], request_id: str) -> InferenceRecord:
    """One that belongs into each kind of table."""
    made = any_record(random.Random(1), request_id=request_id, status_code=400, finish="blocked", timestamp_ms=NOW_MS, request=TEXT)
    found = {"assessment_type": "KEYWORD", "assessment_result": "BLOCKED", "assessment_details": "{}", "direction": "input"}
    return InferenceRecord(**{**made.model_dump(), "assessments": [found], "inference_table": record(table).inference_table})


def test_a_table_that_can_not_be_written_stops_only_its_own_rows_and_they_follow_after_its_repair(
    job: RunningJob, caplog: pytest.LogCaptureFixture
) -> None:
    healthy, broken = ("healthy", "logs", "a"), ("broken", "logs", "a")
    job.produce([record(broken, request_id="broken-1")])
    job.settle()
    folder = job.warehouse / "broken" / "logs" / "a_request_response"
    never = job.warehouse / "broken" / "logs" / "b_request_response"
    caplog.set_level(logging.INFO, "jobs")
    with obstacle(folder), obstacle(never):
        job.produce(
            [record(broken, request_id="broken-2", request=TEXT), record(("broken", "logs", "b"), request_id="broken-3", request=TEXT)]
        )
        job.produce([record(healthy, request_id="healthy-1")])
        job.land()
        job.until(lambda: (job.warehouse / "healthy").exists() and ids(job.rows("healthy.logs.a_request_response")) == ["healthy-1"])
        job.until(lambda: {w.tries > 1 for w in job.run.fanout.work.values()} == {True})

        # Told once, with the table, the folder and the remedy; and in what `sluice doctor` reads.
        told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        for name, place in (("broken.logs.a_request_response", folder), ("broken.logs.b_request_response", never)):
            assert len([m for m in told if f"table {name} in {place} can't be written" in m and "check that the folder" in m]) == 1
            status = job.status()["targets"][name]
            assert status["lag_batches"] > 0 and status["error"] and status["error_since_ms"] >= NOW_MS
        assert job.status()["targets"]["healthy.logs.a_request_response"]["lag_batches"] == 0

        # A restart while it is broken forgets nothing, and what comes meanwhile waits too.
        job.restart(lambda: job.produce([record(broken, request_id="broken-4")]) and None)
        job.land()
        job.until(lambda: job.run._landed.empty() and len(job.run.fanout.work) == 2)
    job.settle()
    assert ids(job.rows("broken.logs.a_request_response")) == ["broken-1", "broken-2", "broken-4"]
    assert ids(job.rows("broken.logs.b_request_response")) == ["broken-3"]
    assert "is written again and has caught up" in caplog.text and TEXT not in caplog.text
    assert job.status()["targets"]["broken.logs.a_request_response"]["error"] is None


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """The folder is a disk of its own, so small; its content stays behind."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    aside = folder.with_name(f".aside-{folder.name}")
    try:
        yield
    finally:
        shutil.copytree(folder, aside)
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)


def test_a_table_whose_disk_is_full_stops_only_its_own_rows_and_they_follow_when_there_is_room(
    job: RunningJob, caplog: pytest.LogCaptureFixture
) -> None:
    full, healthy = ("full", "logs", "a"), ("roomy", "logs", "a")
    folder = job.warehouse / "full" / "logs" / "a_request_response"
    rng = random.Random(3)
    with small_disk(folder, "200k"):
        job.produce([record(full, request_id="full-1")])
        job.settle()
        # Does not shrink: half of it can't be written.
        job.produce([record(full, request_id=f"full-{n}", request=rng.randbytes(50_000).hex()) for n in range(2, 8)])
        job.produce([record(healthy, request_id="roomy-1")])
        job.land()
        job.until(lambda: list(job.run.fanout.work) == [("full", "logs", "a_request_response")])
        job.until(lambda: job.run.fanout.work["full", "logs", "a_request_response"].tries > 2)
        assert ids(job.rows("roomy.logs.a_request_response")) == ["roomy-1"]
        assert "table full.logs.a_request_response in" in caplog.text and "No space left on device" in caplog.text
        assert "No space left" in job.status()["targets"]["full.logs.a_request_response"]["error"]
        job.restart(lambda: job.produce([record(full, request_id="full-8")]) and None)
        subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)
        job.settle()
        assert ids(job.rows("full.logs.a_request_response")) == [f"full-{n}" for n in range(1, 9)]


def test_a_kill_between_landing_and_spreading_leaves_nothing_out_and_doubles_nothing(job: RunningJob) -> None:
    name = "killed"
    table = (name, "logs", "a")
    job.produce([endpoint(name, table), blocked_record(table, f"{name}-1"), (RECORDS.name, b"k", name.encode())])
    job.land()
    assert not (job.warehouse / name).exists()

    def lose_the_commit() -> None:
        # As if the kill had come before Spark noted that the batch is done: it runs again.
        commits = job.settings.data / "checkpoints" / "tables" / "commits"
        newest = max(int(p.name) for p in commits.iterdir() if p.name.isdigit())
        (commits / str(newest)).unlink()
        (commits / f".{newest}.crc").unlink(missing_ok=True)

    job.restart(lose_the_commit)
    job.settle()
    assert ids(job.rows(f"{name}.logs.a_request_response")) == [f"{name}-1"] == ids(job.rows(f"{name}.logs.a_assessment"))
    assert len(job.rows("system.serving.endpoint_usage", f"databricks_request_id = '{name}-1'")) == 1
    assert len(job.rows("system.serving.served_entities", f"endpoint_name = '{name}'")) == 1
    assert [bytes(r["value"]) for r in job.rows("system.serving.dead_letters") if bytes(r["value"] or b"") == name.encode()] == [
        name.encode()
    ]
    check_hourly(job)


def test_everything_read_again_without_the_landing_table_doubles_nothing(job: RunningJob) -> None:
    table, name = ("again", "logs", "a"), "again"
    job.produce([endpoint(name, table), blocked_record(table, name), (RECORDS.name, b"k", name.encode())])
    job.settle()
    before = everything(job)
    assert all(before[f"system.serving.{t}"] for t in ("endpoint_usage", "usage_hourly", "dead_letters", "served_entities"))

    def lose() -> None:
        shutil.rmtree(job.settings.data / "checkpoints")
        shutil.rmtree(job.warehouse / "system" / "internal" / "landing")

    job.restart(lose)
    job.settle()
    assert everything(job) == before


def test_a_start_writes_nothing_where_nothing_is_missing(job: RunningJob) -> None:
    table = ("started", "logs", "a")
    job.produce([endpoint("started", table), blocked_record(table, "started-1")])
    job.settle()
    folders = sorted(log.parent for log in job.warehouse.glob("*/*/*/_delta_log"))
    before = {folder: DeltaFolder(job.spark, folder).version() for folder in folders}
    job.restart()
    job.settle()
    assert {folder: DeltaFolder(job.spark, folder).version() for folder in folders} == before
    assert {told["lag_batches"] for told in job.status()["targets"].values()} == {0}


def test_the_landing_table_forgets_after_two_days_what_is_in_every_table(job: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    table, waiting = ("kept", "logs", "a"), ("kept", "logs", "b")
    old_ms = int(time.time() * 1000) - 2 * DAY_MS - 60_000
    job.produce([endpoint("kept")], timestamp_ms=old_ms)
    job.produce([record(table, request_id="kept-old")], timestamp_ms=old_ms)
    job.produce([record(table, request_id="kept-young")], timestamp_ms=old_ms + 120_000)
    job.settle()

    def landed() -> list[str]:
        return sorted(row["request_id"] for row in job.rows(LANDING, "request_id LIKE 'kept-%'"))

    with obstacle(job.warehouse / "kept" / "logs" / "b_request_response"):
        job.produce([record(waiting, request_id="kept-waiting")], timestamp_ms=old_ms)
        job.land()
        job.until(lambda: any(w.tries for w in job.run.fanout.work.values()))
        job.run._upkeep.empty_landing()
        assert landed() == ["kept-waiting", "kept-young"]
    # Nor do files keep the text for long.
    properties = job.spark.sql("SHOW TBLPROPERTIES system.internal.landing").collect()
    assert ("delta.deletedFileRetentionDuration", "interval 1 hours") in [(row[0], row[1]) for row in properties]
    job.settle()
    # Where batches never stop coming, it is done too.
    monkeypatch.setattr(upkeep, "EMPTY_AT_LAST_S", 0.0)
    monkeypatch.setattr(upkeep, "COMMITS_AT_MOST", 1_000_000)
    job.run._upkeep.run(idle=False)
    assert landed() == ["kept-young"]
    assert ids(job.rows("kept.logs.a_request_response")) == ["kept-old", "kept-young"]
    assert ids(job.rows("kept.logs.b_request_response")) == ["kept-waiting"]
    # The endpoints' records stay: by them tables are made again.
    assert len(job.rows(LANDING, "kind = 'endpoint' AND CAST(key AS STRING) = 'kept'")) == 1


def test_small_files_are_joined_and_no_row_changes(job: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ("files", "logs", "a")
    for number in range(3):
        job.produce([record(table, request_id=f"files-{number}")])
        job.settle()
    folder = job.warehouse / "files" / "logs" / "a_request_response"
    name = ("files", "logs", "a_request_response")

    def live() -> int:
        return len(job.spark.read.format("delta").load(str(folder)).inputFiles())

    assert live() == 3 == job.run.fanout.commits[name]
    monkeypatch.setattr(upkeep, "COMMITS_WHEN_IDLE", 3)
    job.until(lambda: job.run.fanout.commits[name] == 0)
    job.run._upkeep.settle()
    assert live() == 1
    assert ids(job.rows("files.logs.a_request_response")) == ["files-0", "files-1", "files-2"]
    # Where batches never stop coming, it is done all the same.
    job.produce([record(table, request_id="files-3")])
    job.settle()
    assert live() == 2
    monkeypatch.setattr(upkeep, "COMMITS_AT_MOST", 1)
    job.run.fanout.commits = {name: job.run.fanout.commits[name]}
    job.run._upkeep.settle()
    job.run._upkeep.run(idle=False)
    job.run._upkeep.settle()
    assert live() == 1
    assert len(job.rows("files.logs.a_request_response")) == 4


def test_a_commit_that_was_taken_for_failed_is_not_written_again(job: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ("unsure", "logs", "a")
    job.produce([record(table, request_id="unsure-1")])
    job.settle()
    folder = job.run.fanout.targets["unsure", "logs", "a_request_response"].table
    append, failures = folder.append, iter([True])

    def failing(*args: Any) -> list[str]:
        files = append(*args)
        if next(failures, False):
            raise OSError("after the commit")
        return files

    monkeypatch.setattr(folder, "append", failing)
    job.produce([record(table, request_id="unsure-2")])
    job.settle()
    assert next(failures, None) is None
    assert ids(job.rows("unsure.logs.a_request_response")) == ["unsure-1", "unsure-2"]


def test_what_landed_long_ago_is_found_though_its_files_are_known_no_more(job: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ("late", "logs", "a")
    with obstacle(job.warehouse / "late" / "logs" / "a_request_response"):
        job.produce([record(table, request_id="late-1")])
        job.land()
        job.until(lambda: any(w.tries for w in job.run.fanout.work.values()))
        monkeypatch.setattr(fanout, "REMEMBERED_S", 0.0)
    job.produce([record(table, request_id="late-2")])
    job.settle()
    assert ids(job.rows("late.logs.a_request_response")) == ["late-1", "late-2"]


def test_a_landing_table_that_can_not_be_written_ends_the_job_which_goes_on_after_the_repair(job: RunningJob) -> None:
    with obstacle(job.warehouse / "system/internal/landing"):
        job.produce([record(("ended", "logs", "a"), request_id="ended-1")])
        with pytest.raises(TableJobFailed, match=r"the table job's query has ended: batch \d+ can't land in .*/system/internal/landing: "):
            job.until(lambda: False)
        job.run.stop()
        assert "can't land" in job.status()["last_error"]
        job.crash()
        with pytest.raises(
            TableJobFailed, match=r"the landing table in .*/system/internal/landing can't be used: .*; check that its folder"
        ):
            job.start()
    job.start()
    job.settle()
    assert ids(job.rows("ended.logs.a_request_response")) == ["ended-1"]
    assert job.status()["last_error"] is None


def test_a_second_table_job_on_the_same_tables_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(TableJobFailed, match=r"another table job writes .*; stop it first")
    with _alone(tmp_path / "warehouse"), refused, _alone(tmp_path / "warehouse"):
        raise AssertionError("two table jobs at once")
    with _alone(tmp_path / "warehouse"):
        pass


def test_records_that_kafka_lost_end_the_job_and_its_own_remedy_brings_the_rest(job: RunningJob) -> None:
    table = ("lost", "logs", "a")
    job.produce([record(table, request_id="lost-before")])
    job.settle()
    before = everything(job)

    async def delete_records(place: TopicPartition, upto: int) -> None:
        admin = AIOKafkaAdminClient(**client_options(job.settings))
        await admin.start()
        try:
            await admin.delete_records({place: RecordsToDelete(before_offset=upto)})
        finally:
            await admin.close()

    def lose_some() -> None:
        # One key, so one partition: the first of the two that nobody has read yet is gone.
        unread = [record(table, request_id="lost-gone"), record(table, request_id="lost-rest")]
        places = job.produce([(RECORDS.name, b"lost", r.model_dump_json().encode()) for r in unread])
        asyncio.run(delete_records(TopicPartition(RECORDS.name, places[0].partition), places[1].offset))

    job.restart(lose_some)
    with pytest.raises(TableJobFailed, match="Kafka no longer has records that were not read yet; .*delete DATA/checkpoints/tables"):
        job.until(lambda: False)
    job.restart(lambda: shutil.rmtree(job.settings.data / "checkpoints" / "tables"))
    job.settle()
    after = everything(job)
    assert ids(job.rows("lost.logs.a_request_response")) == ["lost-before", "lost-rest"]
    del before["lost.logs.a_request_response"], after["lost.logs.a_request_response"]
    assert after == before


def test_a_table_whose_first_commit_broke_off_is_made_all_the_same(job: RunningJob) -> None:
    """A full disk leaves a log folder without a commit, in which Delta makes no table."""
    log = job.warehouse / "begun" / "logs" / "a_request_response" / "_delta_log"
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.0.tmp").touch()
    table = ("begun", "logs", "a")
    job.produce([endpoint("begun", table), record(table, request_id="begun-1", endpoint_name="begun")])
    job.settle()
    assert ids(job.rows("begun.logs.a_request_response")) == ["begun-1"]
