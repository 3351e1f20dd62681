"""Rows go after their days, hours stay as they were, and an erased user is in no table and no file, and does not come back."""

from __future__ import annotations

import json
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from jobs import dashboard, forget, sql_client
from jobs.audit import audit
from jobs.costs import Costs
from jobs.delta import DeltaFolder, tables_in
from jobs.erased_users import ErasureKeyLost
from jobs.prices import Price, apply_prices
from jobs.sql_server import SqlServer
from jobs.table_job import TableJobFailed, _alone
from pipeline.cli import app
from pipeline.records import Assessment, Attempt
from pipeline.topics import DAY_MS, RECORDS
from tests.jobs.recount import Rows, hour_key, hourly, utc
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, ids, record

pytestmark = pytest.mark.timeout(900)

LOGS = ("private", "logs", "one")
REQUESTS, ASSESSMENTS = "private.logs.one_request_response", "private.logs.one_assessment"
USAGE, HOURLY, COSTS = "system.serving.endpoint_usage", "system.serving.usage_hourly", "system.serving.cost_hourly"
LANDING, LETTERS, ENTITIES = "system.internal.landing", "system.serving.dead_letters", "system.serving.served_entities"
ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"
SECRET, OTHERS = "nobody-may-read-this", "what-bob-asked"
OLD_MS = NOW_MS - 5 * DAY_MS
FOUND = Assessment(assessment_type="KEYWORD", assessment_result="MASKED", assessment_details=json.dumps([SECRET]), direction="input")
FAILED = Attempt(served_entity_name="first", status_code=400, error=f"not {SECRET}", execution_time_ms=1)


def asked(who: str, request_id: str, timestamp_ms: int = NOW_MS, text: str = SECRET, **fields: Any) -> Any:
    usual: dict[str, Any] = {
        "requester": who, "request": json.dumps({"messages": [{"role": "user", "content": text}]}), "response": json.dumps(text),
        "usage_tracking": True, "served_entity_name": "first", "served_entity_id": "id-of-erased-first", "endpoint_name": "erased",
        "tags": {"team": "search"}, "assessments": [FOUND] if text == SECRET else [], "attempts": [FAILED] if text == SECRET else [],
        "client_request_id": f"{who}/1", "usage_context": {"team": "search"},
    }  # fmt: skip
    return record(LOGS, request_id=request_id, timestamp_ms=timestamp_ms, **{**usual, **fields})


@pytest.fixture(scope="module")
def filled(own_job: RunningJob) -> RunningJob:
    """Two users, now and five days ago, an application that asks for one of them, dead letters, costs and the dashboard."""
    job = own_job
    letters = [f'{{"requester": "{ALICE}", "request": "{SECRET}'.encode(), b'{"requester": "somebody else", "request": "']
    job.produce(
        [
            endpoint("erased", LOGS, creator=ALICE, creation_timestamp=OLD_MS),
            asked(ALICE, "alice-1"), asked(ALICE, "alice-2"), asked(ALICE, "alice-old", OLD_MS),
            asked(BOB, "bob-1", text=OTHERS), asked(BOB, "bob-old", OLD_MS, text=OTHERS),
            asked("application", "for-alice", usage_context={"end_user": ALICE, "team": "search"}),
            *[(RECORDS.name, b"letter", letter) for letter in letters],
        ]
    )  # fmt: skip
    job.settle()
    price = Price(model="gpt-4o", valid_from=datetime(2020, 1, 1, tzinfo=UTC), input_per_million=Decimal(1), output_per_million=Decimal(2))
    apply_prices(job.spark, job.warehouse, [price])
    with pytest.MonkeyPatch.context() as patched:
        # Those of its tables that name users.
        queries = {name: query for name, query in dashboard.queries().items() if "requester" in query}
        patched.setattr(dashboard, "queries", lambda: queries)
        figures = dashboard.run(job.spark, job.warehouse, 7)
    job.settings.dashboard_file.parent.mkdir()
    job.settings.dashboard_file.write_text(json.dumps(figures.tables["users"]))
    return job


def tables(job: RunningJob) -> list[str]:
    return [".".join(name) for name in tables_in(job.warehouse)]


def naming(job: RunningJob, *texts: str) -> set[str]:
    """The tables in whose rows one of these texts stands."""
    return {name for name in tables(job) if any(text in str(job.rows(name)) for text in texts)}


def files_with(job: RunningJob, *texts: str) -> set[str]:
    """All files that hold one of these texts, whether a table still needs them or not, as table and kind."""
    found = set()
    for file in job.warehouse.rglob("*"):
        if file.is_file():
            cells = str(pyarrow.parquet.ParquetFile(file).read().to_pylist()) if file.suffix == ".parquet" else ""
            if any(text in cells or text.encode() in file.read_bytes() for text in texts):
                found.add(f"{file.relative_to(job.warehouse).parent} {file.suffix}")
    return found


def agrees(job: RunningJob) -> None:
    """Every record has its row, and the hours whose rows are there equal a recount."""
    found = audit(job.settings, job.spark)
    assert not [table for table in found.tables if table.wrong or table.waiting], found
    assert (found.wrong_hours, found.gaps, found.behind) == (0, {}, 0)
    recounted = hourly(job.rows(USAGE))
    hours = {hour_key(row, row["hour"]): row for row in job.rows(HOURLY, "hour > current_timestamp() - INTERVAL 2 DAYS")}
    assert {key: row["requests"] for key, row in hours.items()} == {key: row["requests"] for key, row in recounted.items()}


def old_hour(job: RunningJob, table: str) -> Rows:
    rows = job.rows(table, "hour < current_timestamp() - INTERVAL 4 DAYS")
    return sorted(rows, key=lambda row: str(row["requester"]))


def test_rows_go_after_their_days_and_their_hours_are_frozen(filled: RunningJob) -> None:
    job = filled
    before = {table: old_hour(job, table) for table in (HOURLY, COSTS)}
    assert [row["requester"] for row in before[HOURLY]] == [ALICE, BOB] and all(row["cost"] for row in before[COSTS])
    job.settings = job.settings.model_copy(update={"retention": f"{REQUESTS}=2,{USAGE}=2"})
    job.restart()
    kept = ["alice-1", "alice-2", "bob-1", "for-alice"]
    job.until(lambda: ids(job.rows(REQUESTS)) == kept and len(job.rows(USAGE)) == len(kept))
    assert "alice-old" in ids(job.rows(ASSESSMENTS))

    # One that comes late for an hour whose rows are gone, and one for an hour whose rows are there.
    job.produce([asked(BOB, "late", OLD_MS, text=OTHERS), asked(BOB, "bob-2", text=OTHERS)])
    job.settle()
    assert ids(job.rows(REQUESTS)) == sorted([*kept, "bob-2"])
    assert old_hour(job, HOURLY) == before[HOURLY]
    agrees(job)

    # Nor do costs change for want of rows, whatever is priced again.
    costs = Costs(job.spark, job.warehouse)
    assert costs.refresh() == 1
    dearer = Price(model="gpt-4o", valid_from=datetime(2020, 1, 1, tzinfo=UTC), input_per_million=Decimal(9), output_per_million=Decimal(9))
    apply_prices(job.spark, job.warehouse, [dearer])
    now = datetime.now(UTC)
    (difference,) = costs.reprice(now - timedelta(days=9), now + timedelta(days=1))
    assert difference.after > difference.before > 0
    assert old_hour(job, COSTS) == before[COSTS]
    assert costs.frozen_before == utc(costs.frozen_before).replace(hour=0, minute=0, second=0) > now - timedelta(days=3)


def ask_to_forget(job: RunningJob, name: str, *, spread: bool = True) -> dict[str, Any]:
    """As the command does, of the running job. `spread`: which goes on with what has landed meanwhile."""
    server = SqlServer(job.settings, job.spark, job.run.eraser.ask)
    server.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(sql_client.forget, name, job.settings)
            deadline_s = time.monotonic() + 120
            while not answer.done():
                assert time.monotonic() < deadline_s
                if spread:
                    job.run.step(0.05)
                else:
                    job.run.eraser.do_asked()
            done = answer.result()
            assert done is not None
            return done
    finally:
        server.stop()


def test_a_forgotten_user_is_in_no_row_of_any_table_and_what_is_counted_stays(filled: RunningJob) -> None:
    job = filled
    job.produce([asked(ALICE, "alice-landed")])
    job.land()
    before = {table: sum(row["requests"] for row in job.rows(table)) for table in (HOURLY, COSTS)}
    named = naming(job, ALICE, SECRET)
    assert {LANDING, REQUESTS, ASSESSMENTS, USAGE, HOURLY, COSTS, LETTERS, ENTITIES} < named
    assert {"system.serving.dashboard_users", "system.serving.dashboard_reviews"} < named

    done = ask_to_forget(job, ALICE, spread=False)
    assert set(done["tables"]) == named
    changed = {REQUESTS: 3, USAGE: 3, LETTERS: 1, ENTITIES: 1}
    assert {table: done["tables"][table] for table in changed} == changed
    assert done["page_removed"] and not job.settings.dashboard_file.exists()
    job.settle()
    assert not naming(job, ALICE, SECRET)
    assert {table: sum(row["requests"] for row in job.rows(table)) - n for table, n in before.items()} == {HOURLY: 1, COSTS: 0}
    agrees(job)

    pseudonym = done["pseudonym"]
    (row,) = job.rows(REQUESTS, "request_id = 'alice-1'")
    assert (row["requester"], row["request"], row["response"], row["attempts"][0]["error"]) == (pseudonym, None, None, None)
    assert (row["input_tokens"], row["client_request_id"], row["logging_error_codes"]) == (3, None, ["ERASED"])
    (row,) = job.rows(REQUESTS, "request_id = 'for-alice'")
    assert (row["requester"], row["request"], row["usage_context"]) == ("application", None, {"end_user": pseudonym, "team": "search"})
    (row,) = job.rows(REQUESTS, "request_id = 'bob-1'")
    assert (row["requester"], OTHERS in row["request"], row["logging_error_codes"]) == (BOB, True, [])
    assert {row["requester"] for row in old_hour(job, HOURLY)} == {pseudonym, BOB} == {row["requester"] for row in old_hour(job, COSTS)}
    assert [row["created_by"] for row in job.rows(ENTITIES)] == [pseudonym]
    assert sorted(row["value"] is None for row in job.rows(LETTERS)) == [False, True]
    key = job.settings.data / "erasure-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and key.read_text() not in str(job.rows("system.internal.erasures"))


def test_what_the_user_asks_later_stays_until_the_user_is_forgotten_again(filled: RunningJob) -> None:
    job = filled
    job.produce([asked(ALICE, "alice-after", int(time.time() * 1000) + 1)])
    job.settle()
    (row,) = job.rows(REQUESTS, f"requester = '{ALICE}'")
    assert (row["request_id"], SECRET in row["request"]) == ("alice-after", True)
    agrees(job)
    time_asked = row["timestamp_ms"]
    job.until(lambda: time.time() * 1000 > time_asked)
    again = ask_to_forget(job, ALICE)
    assert again["tables"][REQUESTS] == 1
    assert {row["requester"] for row in job.rows(REQUESTS, "request IS NULL")} == {again["pseudonym"], "application"}
    # Two rows of the pseudonym in one hour have become one.
    agrees(job)
    assert ask_to_forget(job, ALICE)["tables"] == {}
    with pytest.raises(sql_client.ErasureFailed, match="is the pseudonym of somebody"):
        ask_to_forget(job, again["pseudonym"])


def test_no_file_holds_what_was_erased_once_old_files_are_removed(filled: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = filled
    assert {where.split()[-1] for where in files_with(job, ALICE, SECRET)} == {".parquet"}
    # As if the time for which tables keep such files were over.
    for name in tables_in(job.warehouse):
        path = job.warehouse.joinpath(*name)
        job.spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    assert not job.run.eraser.unswept
    monkeypatch.setattr(forget, "FILES_STAY_MS", -1)
    assert job.run.eraser.unswept
    monkeypatch.setattr(job.run._upkeep, "_erased_s", None)
    job.until(lambda: not job.run.eraser.unswept)
    assert files_with(job, ALICE, SECRET) == set()
    assert files_with(job, OTHERS)


def test_what_comes_again_from_kafka_comes_erased_and_what_is_too_old_not_at_all(filled: RunningJob) -> None:
    job = filled
    before = {name: sorted(map(str, job.rows(name))) for name in tables(job) if name != LANDING}

    def lose() -> None:
        shutil.rmtree(job.settings.data / "checkpoints")
        shutil.rmtree(job.warehouse.joinpath(*LANDING.split(".")))
        # Its rows can only come from Kafka then.
        shutil.rmtree(job.warehouse.joinpath(*ENTITIES.split(".")))

    job.restart(lose)
    job.settle()
    assert {name: sorted(map(str, job.rows(name))) for name in before} == before
    assert files_with(job, ALICE, SECRET) == set()
    agrees(job)
    (row,) = job.rows(LANDING, "request_id = 'alice-1'")
    assert (row["request"], row["assessments"][0]["assessment_details"], row["requester"][:7]) == (None, "{}", "erased-")


def test_an_erasure_that_was_cut_off_is_finished_by_the_next_start(filled: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = filled
    erase = forget._erase_in

    def broken(table: DeltaFolder, *given: Any) -> int:
        if table.path.name == "one_request_response":
            raise OSError("the disk is full")
        return erase(table, *given)

    with monkeypatch.context() as patched:
        patched.setattr(forget, "_erase_in", broken)
        with pytest.raises(sql_client.ErasureFailed, match=f"may still name the user: {REQUESTS}: the disk is full"):
            ask_to_forget(job, BOB)
    assert BOB in str(job.rows(REQUESTS)) and BOB not in str(job.rows(USAGE))
    job.restart()
    job.until(lambda: not job.run.eraser.unfinished)
    assert not naming(job, BOB, OTHERS)
    agrees(job)


def test_without_its_key_nothing_starts_that_could_bring_names_back(filled: RunningJob, tmp_path: Path) -> None:
    key = filled.settings.data / "erasure-key"
    filled.crash()
    key.rename(tmp_path / "aside")
    with pytest.raises(ErasureKeyLost, match="put it back, or"):
        filled.start()
    (tmp_path / "aside").rename(key)
    filled.start()


def test_without_a_running_job_the_command_erases_and_beside_one_it_does_not(filled: RunningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = filled
    job.produce([asked(CAROL, "carol-1")])
    job.settle()
    job.crash()
    command = ["forget", CAROL, "--data", str(job.settings.data)]
    refused = CliRunner().invoke(app, command, input="n\n")
    assert refused.exit_code == 1 and "Erase the texts and the name of carol@example.com" in refused.output
    with _alone(job.warehouse):
        assert isinstance(CliRunner().invoke(app, [*command, "--yes"]).exception, TableJobFailed)
    assert CAROL in naming_text(job)
    done = CliRunner().invoke(app, [*command, "--yes"])
    assert done.exit_code == 0, done.output
    assert "one_request_response" in done.output and "the name is erased-" in done.output
    assert CAROL not in naming_text(job)
    job.start()


def naming_text(job: RunningJob) -> str:
    return str([job.rows(name) for name in tables(job)])
