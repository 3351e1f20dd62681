"""The crash matrix: the table job ends before and after the commit of each table and of Spark's checkpoint, again and again on the same
tables, while records come that are double within a batch and across batches. After the next start every table has each row once.

In this process for every place, by SIGKILL of a real job for some; then the audit looks at all that was sent.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobs import fanout
from jobs.audit import audit
from jobs.table_job import TableJobFailed
from pipeline.records import InferenceRecord
from pipeline.topics import HOUR_MS, RECORDS
from tests.jobs.crashes import LANDING, Killed, crash_at
from tests.jobs.running_job import NOW_MS, Message, RunningJob, endpoint, ids, record
from tests.jobs.test_table_job import any_record, check_hourly
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

# A bound for a machine that has much else to do, not what it takes.
PATIENCE_S = 180.0

NAME = "crashed"
TABLE = (NAME, "logs", "a")
REQUESTS, ASSESSMENTS = f"{NAME}.logs.a_request_response", f"{NAME}.logs.a_assessment"
USAGE, HOURLY = "system.serving.endpoint_usage", "system.serving.usage_hourly"
ENTITIES, LETTERS = "system.serving.served_entities", "system.serving.dead_letters"
TABLES = (LANDING, REQUESTS, ASSESSMENTS, USAGE, HOURLY, ENTITIES, LETTERS)
TEXT = "a text that no log may hold"
# Those at which a real process is killed: what is committed first, in between, and last.
KILLED_AT = [(REQUESTS, "after"), (LANDING, "after"), (HOURLY, "before")]
# Of each kind one; `make test-tables` tries them all.
IN_SHORT = (LANDING, REQUESTS)


def each(tables: Iterable[str]) -> list[Any]:
    """These tables as parameters."""
    return [pytest.param(table, id=table.split(".")[-1], marks=() if table in IN_SHORT else pytest.mark.long) for table in tables]


@dataclass
class Sent:
    """All that was sent, and so all that the tables must hold."""

    rng: random.Random = field(default_factory=lambda: random.Random(17))
    records: dict[str, InferenceRecord] = field(default_factory=dict)
    letters: int = 0
    versions: int = 0

    def more(self) -> list[Message | InferenceRecord | Any]:
        """Rows for every table: new requests, some of them twice, some of before again, some of long ago; a changed endpoint; garbage."""
        again = self.rng.sample(sorted(self.records), min(4, len(self.records)))
        made = [self._record(number) for number in range(8)]
        copies = [self.records[one].model_copy(update={"run_id": "again"}) for one in [*again, *(r.request_id for r in made[::2])]]
        self.versions += 1
        self.letters += 1
        # Keyed by its number, so that no two are the same bytes at the same place.
        garbage = (RECORDS.name, b"k", f"no record {self.letters}".encode())
        return [endpoint(NAME, TABLE, config_version=self.versions), *made, *copies, garbage]

    def _record(self, number: int) -> InferenceRecord:
        hours_ago = self.rng.choice([0, 0, 1, 5, 30])
        finish = "blocked" if number % 2 else "ok"
        made = any_record(
            self.rng, request_id=f"{NAME}-{len(self.records)}", endpoint_name=NAME, inference_table=record(TABLE).inference_table,
            finish=finish, assessments=self._found() if finish == "blocked" else [], timestamp_ms=NOW_MS - hours_ago * HOUR_MS,
        )  # fmt: skip
        self.records[made.request_id] = made
        return made

    def _found(self) -> list[dict[str, str]]:
        rest = {"assessment_result": "BLOCKED", "assessment_details": "{}"}
        return [{"assessment_type": "PII", "direction": direction, **rest} for direction in ("input", "output")]


@pytest.fixture(scope="module")
def sent() -> Sent:
    return Sent()


@pytest.fixture(autouse=True)
def running(own_job: RunningJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What can't be written is tried again at once, and the hours are counted at once."""
    for name, value in (("FIRST_PAUSE_S", 0.05), ("LONGEST_PAUSE_S", 0.5), ("ROLLUP_EVERY_S", 0.5)):
        monkeypatch.setattr(fanout, name, value)
    if own_job.table_job is None:
        own_job.start()
    yield


def run_into(job: RunningJob, table: str, when: str) -> None:
    """Step until the job has ended there."""
    with crash_at(table, when) as reached:
        with pytest.raises((Killed, TableJobFailed)):
            job.until(lambda: False, PATIENCE_S)
        job.crash()
    assert reached.is_set()


def check(job: RunningJob, sent: Sent) -> None:
    """0 lost, 0 double in every table, and no cell of the rollup that differs."""
    found = {(i, a.assessment_type, a.direction) for i, r in sent.records.items() for a in r.assessments}
    wanted: dict[str, tuple[set[Any], tuple[str, ...]]] = {
        REQUESTS: ({(i,) for i in sent.records}, ("request_id",)),
        USAGE: ({(i,) for i in sent.records}, ("databricks_request_id",)),
        ASSESSMENTS: (found, ("request_id", "assessment_type", "direction")),
        ENTITIES: ({(version,) for version in range(1, sent.versions + 1)}, ("endpoint_config_version",)),
        LETTERS: ({(f"no record {n}".encode(),) for n in range(1, sent.letters + 1)}, ("value",)),
    }
    for table, (keys, columns) in wanted.items():
        rows = Counter(tuple(bytes(v) if isinstance(v, bytearray) else v for v in (row[c] for c in columns)) for row in job.rows(table))
        assert (keys - rows.keys(), [key for key, n in rows.items() if n > 1], rows.keys() - keys) == (set(), [], set()), table
    check_hourly(job)


def settled(job: RunningJob, sent: Sent) -> None:
    """Everything is started again, more comes, and all of it is there."""
    if job.table_job is None:
        job.start()
    job.settle(PATIENCE_S)
    check(job, sent)


def test_the_zones_are_apart(own_job: RunningJob) -> None:
    """What follows would show nothing on a machine in UTC, nor in a JVM that has the machine's zone."""
    assert time.timezone != 0, os.environ["TZ"]
    jvm: Any = own_job.spark.sparkContext._jvm
    assert jvm.java.util.TimeZone.getDefault().getID() == "UTC"


@pytest.mark.parametrize("table", each(TABLES))
def test_an_end_before_a_commit_and_then_one_after_it_lose_nothing_and_double_nothing(own_job: RunningJob, sent: Sent, table: str) -> None:
    for when in ("before", "after"):
        own_job.produce(sent.more())
        run_into(own_job, table, when)
        own_job.start()
    settled(own_job, sent)


@pytest.mark.parametrize("table", each(TABLES[1:]))
def test_a_commit_that_came_through_although_it_looked_failed_is_not_made_again(own_job: RunningJob, sent: Sent, table: str) -> None:
    def looks_failed(_: str) -> Any:
        # More lands before it is tried again, so that the next commit is another one.
        own_job.produce(sent.more())
        own_job.land()
        raise OSError("the answer got lost")

    with crash_at(table, "after", looks_failed, and_then=True) as reached:
        own_job.produce(sent.more())
        own_job.until(reached.is_set, PATIENCE_S)
        settled(own_job, sent)


def newest_commit_is_lost(job: RunningJob) -> None:
    commits = job.settings.data / "checkpoints" / "tables" / "commits"
    newest = max(int(p.name) for p in commits.iterdir() if p.name.isdigit())
    (commits / str(newest)).unlink()
    (commits / f".{newest}.crc").unlink(missing_ok=True)


def checkpoint_is_lost(job: RunningJob) -> None:
    shutil.rmtree(job.settings.data / "checkpoints" / "tables")


def checkpoint_and_landing_are_lost(job: RunningJob) -> None:
    checkpoint_is_lost(job)
    shutil.rmtree(job.warehouse.joinpath(*LANDING.split(".")))


LOSSES = [newest_commit_is_lost, checkpoint_is_lost, checkpoint_and_landing_are_lost]


@pytest.mark.parametrize(
    ("spread", "loss"),
    [
        pytest.param(False, None, marks=pytest.mark.long),
        (False, newest_commit_is_lost),
        pytest.param(True, newest_commit_is_lost, marks=pytest.mark.long),
        *((True, loss) for loss in LOSSES[1:]),
    ],
)
def test_an_end_after_the_checkpoints_commit_and_a_checkpoint_that_is_lost(
    own_job: RunningJob, sent: Sent, spread: bool, loss: Callable[[RunningJob], None] | None
) -> None:
    own_job.produce(sent.more())
    own_job.settle() if spread else own_job.land()

    def between() -> None:
        if loss:
            loss(own_job)
        own_job.produce(sent.more())

    own_job.restart(between)
    settled(own_job, sent)


@pytest.mark.long
def test_ends_in_any_order_before_anything_was_made_good(own_job: RunningJob, sent: Sent) -> None:
    for table, when in random.Random(3).sample([(table, when) for table in TABLES for when in ("before", "after")], 3):
        own_job.produce(sent.more())
        run_into(own_job, table, when)
        own_job.start()
    settled(own_job, sent)


def a_job(job: RunningJob, log: Path, *argv: str) -> subprocess.Popen[bytes]:
    """A real table job on the same tables and broker; its output is in `log`."""
    job.crash()
    given = {"SLUICE_DATA": str(job.settings.data), "SLUICE_KAFKA": job.settings.kafka, "SLUICE_TRIGGER_S": "0.2"}
    with log.open("wb") as out:
        return subprocess.Popen(argv, env={**os.environ, **given}, stdout=out, stderr=out, start_new_session=True)


@pytest.mark.parametrize(
    ("table", "when"),
    [
        pytest.param(*at, id=f"{at[1]}-{at[0].split('.')[-1]}", marks=pytest.mark.long if number else ())
        for number, at in enumerate(KILLED_AT)
    ],
)
def test_a_killed_process_loses_nothing_and_doubles_nothing(own_job: RunningJob, sent: Sent, tmp_path: Path, table: str, when: str) -> None:
    own_job.produce(sent.more())
    killed = a_job(own_job, tmp_path / "log", sys.executable, "-m", "tests.jobs.crashes", table, when)
    assert killed.wait(PATIENCE_S) == -9, (tmp_path / "log").read_text()[-2_000:]
    own_job.produce(sent.more())
    settled(own_job, sent)


def test_a_table_without_permission_stops_only_its_own_rows_and_they_follow_after_the_repair(
    own_job: RunningJob, sent: Sent, tmp_path: Path
) -> None:
    """A real process, for which permissions count although it may be root's."""
    denied, healthy = ("denied", "logs", "a"), ("allowed", "logs", "a")
    own_job.produce([record(denied, request_id="denied-1", endpoint_name="denied")])
    own_job.settle()
    folder = own_job.warehouse / "denied" / "logs" / "a_request_response"
    closed = [folder / "_delta_log", folder, folder.parent]
    own_job.produce([record(denied, request_id="denied-2", request=TEXT), record(("denied", "logs", "b"), request_id="denied-3")])
    own_job.produce([record(healthy, request_id="allowed-1")])
    obeys = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for place in closed:
        place.chmod(0o555)
    log = tmp_path / "log"
    process = a_job(own_job, log, *obeys, sys.executable, "-m", "pipeline", "tables")
    try:
        targets: dict[str, dict[str, Any]] = {}

        def told() -> dict[str, dict[str, Any]]:
            assert process.poll() is None, log.read_text()[-2_000:]
            targets.update(own_job.status()["targets"])
            return {name: targets.get(f"{name}_request_response", {}) for name in ("denied.logs.a", "denied.logs.b", "allowed.logs.a")}

        wait_for(lambda: [bool(t.get("error")) for t in told().values()] == [True, True, False] and told()["allowed.logs.a"], PATIENCE_S)
        assert "ermission denied" in targets["denied.logs.a_request_response"]["error"]
        wait_for(lambda: "table denied.logs.a_request_response in" in log.read_text(), PATIENCE_S)
        assert log.read_text().count("table denied.logs.a_request_response in") == 1
        assert TEXT not in log.read_text()
        wait_for(lambda: [r["request_id"] for r in own_job.rows("allowed.logs.a_request_response")] == ["allowed-1"], PATIENCE_S)
        for place in closed:
            place.chmod(0o755)
        wait_for(lambda: told()["denied.logs.a"].get("error", "") is None and told()["denied.logs.b"].get("error", "") is None, PATIENCE_S)
    finally:
        for place in closed:
            place.chmod(0o755)
        process.terminate()
        process.wait(60)
    assert ids(own_job.rows("denied.logs.a_request_response")) == ["denied-1", "denied-2"]
    assert ids(own_job.rows("denied.logs.b_request_response")) == ["denied-3"]


def test_the_audit_of_all_that_was_sent_finds_nothing(own_job: RunningJob, sent: Sent) -> None:
    """Last, the four of the test before included: nothing is lost, double or unexplained, and each hour equals its recount."""
    found = audit(own_job.settings, own_job.spark)
    assert (found.behind, found.gaps, found.wrong_hours) == (0, {}, 0)
    assert [table for table in found.tables if table.wrong or table.waiting] == []
    assert found.dead_letters == sent.letters and found.read - found.copies - found.dead_letters == len(sent.records) + 4
