"""Somebody else works on the tables while the job writes: small files are joined, old ones removed, columns added. No row is harmed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql.types import LongType, StructField, StructType

from jobs.delta import DeltaFolder
from pipeline.records import InferenceRecord
from tests.jobs.running_job import RunningJob, endpoint, ids, record
from tests.jobs.test_table_job import check_hourly

pytestmark = pytest.mark.timeout(240)

ROUNDS, ROWS_A_ROUND = 4, 5
NAME = "disturbed"
TABLE = (NAME, "logs", "a")


def tables_of(job: RunningJob) -> list[Path]:
    """What the job writes for these records."""
    found = [f"{NAME}.logs.a_request_response", "system.internal.landing", "system.serving.endpoint_usage", "system.serving.usage_hourly"]
    return [job.warehouse.joinpath(*name.split(".")) for name in found]


class Disturber(threading.Thread):
    """Runs `statements` on all tables, again and again, in a session of its own, until `enough`; `done` and `failed` are told."""

    def __init__(self, job: RunningJob, statements: Callable[[Path, int], list[str]]) -> None:
        super().__init__(name="disturber", daemon=True)
        self._spark, self._tables, self._statements = job.spark.newSession(), tables_of(job), statements
        self.enough = threading.Event()
        self.done = 0
        self.failed: list[str] = []

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            for table in self._tables:
                for statement in self._statements(table, number):
                    if self.enough.is_set():
                        return
                    try:
                        self._spark.sql(statement)
                        self.done += 1
                    except Exception as exc:
                        # Between two writers the one that comes second may lose; the job must be the one that tries again.
                        self.failed.append(f"{statement}: {str(exc)[:200]}")


def statements(table: Path, number: int) -> list[str]:
    """What an administrator may run at any time; the tables get two columns more."""
    place = f"delta.`{table}`"
    added = [f"ALTER TABLE {place} ADD COLUMNS (note_{number} STRING)"] if number <= 2 else []
    return [f"OPTIMIZE {place}", f"VACUUM {place}", *added]


def records_of(number: int) -> list[InferenceRecord]:
    return [record(TABLE, request_id=f"{NAME}-{number}-{n}", endpoint_name=NAME, usage_tracking=True) for n in range(ROWS_A_ROUND)]


def test_other_writers_of_the_tables_lose_no_row_and_double_none(job: RunningJob) -> None:
    if job.table_job is None or not job.run.query.isActive:
        job.restart()
    job.produce([endpoint(NAME, TABLE), *records_of(0)])
    job.settle()
    disturber = Disturber(job, statements)
    disturber.start()
    try:
        for number in range(1, ROUNDS):
            job.produce(records_of(number))
            # The same again, as after a crash of a worker: still one row each.
            job.produce(records_of(number)[:2])
            job.settle()
    finally:
        disturber.enough.set()
        disturber.join(60)
    assert disturber.done > len(tables_of(job)), disturber.failed
    job.produce(records_of(ROUNDS))
    job.settle()

    wanted = sorted(r.request_id for number in range(ROUNDS + 1) for r in records_of(number))
    rows = job.rows(f"{NAME}.logs.a_request_response")
    assert ids(rows) == wanted
    assert "note_1" in rows[0] and {row["note_1"] for row in rows} == {None}
    usage = job.rows("system.serving.endpoint_usage", f"databricks_request_id LIKE '{NAME}-%'")
    assert sorted(row["databricks_request_id"] for row in usage) == wanted
    check_hourly(job)
    assert job.status()["last_error"] is None


class ChangedUnderWay(DeltaFolder):
    """A table that gets a column more after a commit has begun, `times` times."""

    times = 0

    def _log(self) -> Any:
        return BegunTooEarly(self, super()._log())


class BegunTooEarly:
    """The log of such a table."""

    def __init__(self, table: ChangedUnderWay, log: Any) -> None:
        self._table, self._log = table, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def startTransaction(self) -> Any:
        begun = self._log.startTransaction()
        if self._table.times:
            self._table.times -= 1
            self._table.spark.sql(f"ALTER TABLE delta.`{self._table.path}` ADD COLUMNS (note_{self._table.times} STRING)")
        return begun


def test_a_column_added_while_a_commit_is_under_way_does_not_lose_it(job: RunningJob, tmp_path: Path) -> None:
    table = ChangedUnderWay(job.spark, tmp_path / "changed")
    table.create(StructType([StructField("n", LongType())]), ())
    table.times = 2
    table.append(job.spark.range(3).withColumnRenamed("id", "n"), "app", 7)
    assert sorted(row.n for row in table.read().collect()) == [0, 1, 2]
    assert (table.times, table.transaction("app")) == (0, 7)
