"""What the table job makes of records: rows in the right tables, each request once, and dead letters of what can't be read."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import Row

from jobs.landed import copies_among
from jobs.landing import MAX_TEXT_BYTES
from jobs.schemas import ENDPOINT_USAGE, REQUEST_RESPONSE
from pipeline.core.outcome import Outcome, inference_record
from pipeline.envelope import Envelope
from pipeline.records import Assessment, Attempt, DeadLetter, GuardrailRun, InferenceRecord, RequestRecord
from pipeline.topics import DAY_MS, DEAD_LETTERS, ENDPOINTS, RECORDS
from tests.jobs import recount
from tests.jobs.recount import utc
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, ids, record

pytestmark = pytest.mark.timeout(240)

USAGE, HOURLY = "system.serving.endpoint_usage", "system.serving.usage_hourly"
LETTERS, ENTITIES = "system.serving.dead_letters", "system.serving.served_entities"
Table = tuple[str, str, str]
ONE, TWO = ("one", "logs", "shared"), ("two", "logs", "shared")
HOUR_MS = 3_600_000


def time_of(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


# --- a history of two batches


@dataclass
class History:
    """What was sent, copies included, and which of a request's records counts."""

    sent: list[InferenceRecord] = field(default_factory=list)
    counts: dict[str, InferenceRecord] = field(default_factory=dict)

    def add(self, made: list[InferenceRecord]) -> list[InferenceRecord]:
        for one in made:
            self.sent.append(one)
            self.counts.setdefault(one.request_id, one)
        return made

    def of(self, table: Table) -> dict[str, InferenceRecord]:
        catalog = table[0]
        return {i: r for i, r in self.counts.items() if r.inference_table and r.inference_table.catalog_name == catalog}


OUTCOMES = [(200, "ok"), (429, "refused"), (400, "blocked"), (400, "rejected"), (502, "failed"), (504, "expired"), (499, "abandoned")]


def any_record(rng: random.Random, **fields: Any) -> InferenceRecord:
    """A record with all there is in it."""
    status, finish = OUTCOMES[rng.randrange(len(OUTCOMES))]
    answered = status in (200, 502)
    blocked = [
        Assessment(assessment_type="KEYWORD", assessment_result="BLOCKED", assessment_details='{"count":1}', direction="input"),
        Assessment(assessment_type="PII", assessment_result="MASKED", assessment_details='{"count":2}', direction="output"),
    ]
    usual: dict[str, Any] = {
        "endpoint_name": rng.choice(["wave-a", "wave-b"]), "requester": rng.choice(["alice@example.com", "bob@example.com"]),
        "client_request_id": rng.choice([None, "mine"]), "usage_context": rng.choice([{}, {"team": "search"}]),
        "tags": rng.choice([{}, {"team": "search", "stage": "prod"}]), "status_code": status, "finish": finish,
        "timestamp_ms": NOW_MS - rng.randrange(4 * HOUR_MS), "execution_time_ms": rng.randrange(5_000),
        "time_to_first_token_ms": rng.choice([None, 40]), "input_tokens": rng.randrange(1_000), "output_tokens": rng.randrange(1_000),
        "input_characters": rng.randrange(4_000), "output_characters": rng.randrange(4_000), "streaming": rng.random() < 0.3,
        "served_entity_name": "first" if answered else None, "served_entity_id": "id-first" if answered else None,
        "served_model_name": "gpt-4o" if answered else None, "config_version": rng.randrange(1, 9),
        "attempts": [Attempt(served_entity_name="first", status_code=status, error="it failed", execution_time_ms=7)] if answered else [],
        "guardrails": [GuardrailRun(assessment_type="KEYWORD", direction="input", result="PASSED", duration_ms=0.25)],
        "assessments": blocked if finish == "blocked" else [], "usage_tracking": True, "response": '{"error_code":"X","message":"ü 🌊"}',
    }  # fmt: skip
    return record(rng.choice([ONE, TWO, None]), **{**usual, **fields})


@pytest.fixture(scope="module")
def history(job: RunningJob) -> History:
    """Two batches: copies within the first, copies of the first in the second, late rows, and requests without usage tracking."""
    rng, told = random.Random(5), History()

    def first_batch() -> None:
        made = told.add([any_record(rng) for _ in range(70)])
        again = told.add([any_record(rng, request_id=r.request_id, run_id="2", timestamp_ms=r.timestamp_ms + 5) for r in made[::3]])
        job.produce([*made, *again])

    # While no query runs, records gather; the next one takes them in one batch.
    job.restart(first_batch)
    job.settle()
    for table in (ONE, TWO):
        assert job.rows(f"{table[0]}.logs.shared_request_response")
    kept = list(told.counts.values())
    copies = [any_record(rng, request_id=r.request_id, run_id="3", timestamp_ms=r.timestamp_ms - 7) for r in kept[::4]]
    late = [any_record(rng, timestamp_ms=NOW_MS - 30 * HOUR_MS) for _ in range(5)]
    untracked = [any_record(rng, usage_tracking=False) for _ in range(10)]
    job.produce(told.add([*copies, *late, *untracked, *(any_record(rng) for _ in range(20))]))
    job.settle()
    assert len(told.sent) > len(told.counts) + 40
    return told


@pytest.mark.parametrize("table", [ONE, TWO], ids=["one", "two"])
def test_each_request_is_one_row_of_its_own_table_with_all_its_columns(job: RunningJob, history: History, table: Table) -> None:
    expected = history.of(table)
    rows = job.rows(f"{table[0]}.logs.shared_request_response")
    assert ids(rows) == sorted(expected)
    assert {row["finish"] for row in rows} == {finish for _, finish in OUTCOMES}
    for row in rows:
        told = expected[row["request_id"]].model_dump() | {"request_date": time_of(row["timestamp_ms"]).date()}
        assert row == {f.name: told[f.name] for f in REQUEST_RESPONSE.fields}


@pytest.mark.parametrize("table", [ONE, TWO], ids=["one", "two"])
def test_each_finding_is_one_row(job: RunningJob, history: History, table: Table) -> None:
    expected = [
        found.model_dump() | {"request_id": r.request_id, "timestamp_ms": r.timestamp_ms, "endpoint_name": r.endpoint_name,
                              "requester": r.requester, "assessment_date": time_of(r.timestamp_ms).date()}
        for r in history.of(table).values() for found in r.assessments
    ]  # fmt: skip
    assert len(expected) > 4
    rows = job.rows(f"{table[0]}.logs.shared_assessment")
    assert sorted(map(str, (sorted(r.items()) for r in rows))) == sorted(map(str, (sorted(e.items()) for e in expected)))


def test_usage_has_one_row_for_each_request_of_endpoints_with_usage_tracking(job: RunningJob, history: History) -> None:
    expected = {i: r for i, r in history.counts.items() if r.usage_tracking}
    rows = {row["databricks_request_id"]: row for row in job.rows(USAGE) if row["databricks_request_id"] in history.counts}
    assert set(rows) == set(expected) and len(expected) < len(history.counts)
    names = {"input_token_count": "input_tokens", "output_token_count": "output_tokens", "input_character_count": "input_characters",
             "output_character_count": "output_characters", "request_streaming": "streaming",
             "databricks_request_id": "request_id"}  # fmt: skip
    for request_id, row in rows.items():
        told = expected[request_id].model_dump() | {"workspace_id": None, "account_id": None}
        assert utc(row.pop("request_time")) == time_of(told["timestamp_ms"])
        assert row == {f.name: told[names.get(f.name, f.name)] for f in ENDPOINT_USAGE.fields if f.name != "request_time"}


def check_hourly(job: RunningJob) -> None:
    """Whatever happened: usage_hourly is a recount of endpoint_usage."""
    expected = recount.hourly(job.rows(USAGE))
    rows = job.rows(HOURLY)
    assert len(rows) == len(expected)
    for row in rows:
        figures = expected[recount.hour_key(row, row["hour"])]
        assert {name: row[name] for name in figures} == pytest.approx(figures)


def test_the_hours_equal_a_recount_of_the_usage_rows_the_late_ones_included(job: RunningJob, history: History) -> None:
    check_hourly(job)
    hours = {utc(row["hour"]) for row in job.rows(HOURLY)}
    assert min(hours) < time_of(NOW_MS - 29 * HOUR_MS) and len(hours) >= 5


# --- which record of a request counts


@given(st.data())
def test_records_of_one_id_count_when_they_are_a_day_apart_however_they_are_split_into_batches(data: st.DataObject) -> None:
    times = data.draw(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4 * DAY_MS)), max_size=12))
    cut = data.draw(st.integers(0, len(times)))
    records = [
        Row(topic="t", partition=0, offset=offset, appended_ms=offset // 3, request_id=request_id, timestamp_ms=ms)
        for offset, (request_id, ms) in enumerate(times)
    ]
    shuffled = data.draw(st.permutations(records[:cut]))
    first = copies_among(shuffled, [])
    known = [r for r in records[:cut] if (r.topic, r.partition, r.offset) not in first]
    copies = first | copies_among(records[cut:], known)
    counting: list[Row] = []
    for one in records:
        is_copy = any(one.request_id == c.request_id and abs(one.timestamp_ms - c.timestamp_ms) < DAY_MS for c in counting)
        assert (("t", 0, one.offset) in copies) == is_copy
        if not is_copy:
            counting.append(one)


# --- one batch in which everything else lies side by side


LETTER_TABLE, TEXT_TABLE, LEAST_TABLE = ("letters", "logs", "all"), ("texts", "logs", "long"), ("least", "logs", "fields")
OLD, NEW = ("prefix", "logs", "old"), ("prefix", "logs", "new")
WIDE = "ü" * (MAX_TEXT_BYTES // 2)
TEXTS: dict[str, dict[str, Any]] = {
    "texts-fit": {"request": "x" * MAX_TEXT_BYTES, "response": WIDE},
    "texts-request": {"request": "x" * (MAX_TEXT_BYTES + 1)},
    "texts-response": {"response": WIDE + "x", "logging_error_codes": ["EARLIER"]},
    "texts-both": {"request": WIDE + "ü", "response": WIDE + "ü"},
}
TOLD = DeadLetter(reason="not JSON", topic="gateway.requests", partition=3, offset=77, timestamp_ms=5, value_base64="/w==")


CHANGED = endpoint("entities", entities=("a",), config_version=2, tags=[{"key": "team", "value": "ads"}])


def again(gap_ms: int, request_id: str) -> InferenceRecord:
    """A record of a request that was first recorded three days ago, and so many milliseconds later again."""
    return record(("days", "logs", "again"), request_id=request_id, timestamp_ms=NOW_MS - 3 * DAY_MS + gap_ms, run_id=str(gap_ms))


def least() -> dict[str, Any]:
    """No field more than a record needs, and one that nobody knows."""
    whole = record(LEAST_TABLE, request_id="least-1").model_dump()
    required = [name for name, info in InferenceRecord.model_fields.items() if info.is_required()]
    return {name: whole[name] for name in [*required, "inference_table"]} | {"from_the_future": [1]}


def like(**fields: Any) -> bytes:
    """A record's bytes with some fields put wrong or left out."""
    known = record(LETTER_TABLE).model_dump() | fields
    return json.dumps({k: v for k, v in known.items() if v != "LEFT OUT"}).encode()


def unreadable() -> list[tuple[str, bytes | None, bytes | None, str]]:
    """Topic, key, value, and the reason that the dead letter must give."""
    strange = [
        {"catalog_name": "..", "schema_name": "s", "table_name_prefix": "p"},
        {"catalog_name": "strange", "schema_name": "a/b", "table_name_prefix": "p"},
        {"catalog_name": "strange", "schema_name": "s", "table_name_prefix": "p\n"},
        {"catalog_name": "system", "schema_name": "serving", "table_name_prefix": "endpoint_usage"},
        {"catalog_name": "strange", "schema_name": "s"},
    ]
    return [
        (RECORDS.name, b"k", b"\xff\xfe\x00", "not a JSON object in UTF-8"),
        (RECORDS.name, b"k", b'{"request_id": "\xff"}', "not a JSON object in UTF-8"),
        (RECORDS.name, b"k", None, "no value"),
        (RECORDS.name, b"k", b"", "not a JSON object in UTF-8"),
        (RECORDS.name, b"k", b"[1]", "not a JSON object in UTF-8"),
        (RECORDS.name, None, b'{"request_id": "cut', "not JSON, or a field of a wrong type"),
        (RECORDS.name, b"k", like(status_code="many"), "not JSON, or a field of a wrong type"),
        (RECORDS.name, b"k", like(tags=["a"]), "not JSON, or a field of a wrong type"),
        (RECORDS.name, b"k", like(requester="LEFT OUT"), "field requester is missing"),
        (RECORDS.name, b"k", like(request_id=None), "field request_id is missing"),
        (RECORDS.name, b"k", like(request_id=""), "request_id is empty or too long"),
        (RECORDS.name, b"k", like(request_id="x" * 129), "request_id is empty or too long"),
        (RECORDS.name, b"k", like(timestamp_ms=-1), "timestamp_ms is no time between 1970 and 9999"),
        (RECORDS.name, b"k", like(timestamp_ms=253_402_300_800_000), "timestamp_ms is no time between 1970 and 9999"),
        (RECORDS.name, b"k", like(schema_version=2), "a version of the record that this table job does not know"),
        *[(RECORDS.name, b"k", like(inference_table=names), "inference_table is not a name for a table") for names in strange],
        (ENDPOINTS.name, b"poisoned", b'{"name": "poisoned"', "not an endpoint's configuration (1 errors)"),
        (ENDPOINTS.name, b"other", endpoint("poisoned").model_dump_json().encode(), "an endpoint's record under another name's key"),
        (DEAD_LETTERS.name, None, b"garbage", "not a JSON object in UTF-8"),
    ]


@dataclass
class Mixed:
    """What was unreadable, and where in Kafka each of it lies."""

    letters: list[tuple[str, bytes | None, bytes | None, str]]
    places: list[Any]


@pytest.fixture(scope="module")
def mixed(job: RunningJob) -> Mixed:
    """Sent while no query runs, so that the good and the bad lie in one batch."""
    joined, letters = endpoint("joined", entities=("gpt-4o", "backup")), unreadable()
    off = endpoint("configured-off", ("off", "logs", "early"))
    assert off.ai_gateway.inference_table_config
    off.ai_gateway.inference_table_config.enabled = False

    def outcome(request_id: str, **fields: Any) -> InferenceRecord:
        envelope = Envelope(request_id, "joined", "alice@example.com", appended_ms=NOW_MS)
        request = RequestRecord.model_construct(client_request_id=None, usage_context=None, task="llm/v1/chat", body={"messages": []})
        return inference_record(envelope, request, joined, Outcome(body={"choices": []}, **fields), "1", NOW_MS + 10)

    messages = [
        *(letter[:3] for letter in letters),
        (DEAD_LETTERS.name, None, TOLD.model_dump_json().encode()),
        record(LETTER_TABLE, request_id="letters-good"),
        *(record(TEXT_TABLE, request_id=request_id, **fields) for request_id, fields in TEXTS.items()),
        (RECORDS.name, b"least-1", json.dumps(least()).encode()),
        joined, outcome("joined-1", served_entity="gpt-4o"), outcome("joined-2", served_entity="backup"), outcome("joined-3"),
        endpoint("prefixed", OLD), record(OLD, request_id="prefix-1"),
        endpoint("prefixed", NEW, config_version=2), record(NEW, request_id="prefix-2"),
        endpoint("configured", ("early", "logs", "early")), off,
        endpoint("entities", entities=("a", "b")), endpoint("entities-quiet", usage=False), CHANGED,
        *(again(gap_ms=0, request_id=request_id) for request_id in ("days-copy", "days-new")),
    ]  # fmt: skip
    places: list[Any] = []
    job.restart(lambda: places.extend(job.produce(messages)))
    job.settle()
    return Mixed(letters, places)


def test_unreadable_bytes_become_dead_letters_with_their_place_and_the_stream_goes_on(job: RunningJob, mixed: Mixed) -> None:
    assert ids(job.rows("letters.logs.all_request_response")) == ["letters-good"]
    rows = {(r["topic"], r["partition"], r["offset"]): r for r in job.rows(LETTERS)}
    for (topic, key, value, reason), place in zip(mixed.letters, mixed.places, strict=False):
        row = rows[topic, place.partition, place.offset]
        found = {name: bytes(row[name]) if row[name] is not None else None for name in ("key", "value")}
        assert (row["reason"], found["key"], found["value"]) == (reason, key, value)
        assert row["timestamp_ms"] == place.timestamp
    assert not (job.warehouse / "strange").exists() and not (job.warehouse / "system/serving/endpoint_usage_request_response").exists()


def test_another_readers_dead_letter_keeps_the_place_that_it_tells_of(job: RunningJob, mixed: Mixed) -> None:
    [row] = job.rows(LETTERS, "topic = 'gateway.requests'")
    assert (row["partition"], row["offset"], row["reason"], bytes(row["value"]), row["timestamp_ms"]) == (3, 77, "not JSON", b"\xff", 5)


def test_texts_over_a_mebibyte_are_null_with_a_code(job: RunningJob, mixed: Mixed) -> None:
    rows = {row["request_id"]: row for row in job.rows("texts.logs.long_request_response")}
    assert {i: row["logging_error_codes"] for i, row in rows.items()} == {
        "texts-fit": [], "texts-request": ["MAX_REQUEST_SIZE_EXCEEDED"], "texts-response": ["EARLIER", "MAX_RESPONSE_SIZE_EXCEEDED"],
        "texts-both": ["MAX_REQUEST_SIZE_EXCEEDED", "MAX_RESPONSE_SIZE_EXCEEDED"],
    }  # fmt: skip
    assert (rows["texts-fit"]["request"], rows["texts-fit"]["response"]) == ("x" * MAX_TEXT_BYTES, WIDE)
    assert rows["texts-request"]["request"] is None and rows["texts-request"]["response"] == '{"choices":[]}'
    assert rows["texts-response"]["response"] is None and rows["texts-response"]["request"] is not None
    assert (rows["texts-both"]["request"], rows["texts-both"]["response"], rows["texts-both"]["status_code"]) == (None, None, 200)


def test_fields_that_a_record_leaves_out_have_their_defaults_and_unknown_ones_are_ignored(job: RunningJob, mixed: Mixed) -> None:
    [row] = job.rows("least.logs.fields_request_response")
    expected = InferenceRecord(**least()).model_dump() | {"request_date": time_of(NOW_MS).date()}
    assert row == {f.name: expected[f.name] for f in REQUEST_RESPONSE.fields}
    assert (row["input_tokens"], row["tags"], row["attempts"], row["streaming"]) == (0, {}, [], False)


def test_usage_rows_join_with_served_entities(job: RunningJob, mixed: Mixed) -> None:
    joined = job.spark.sql(
        "SELECT u.databricks_request_id, u.served_entity_name, e.served_entity_name, e.endpoint_name FROM system.serving.endpoint_usage u "
        "LEFT JOIN system.serving.served_entities e USING (served_entity_id) WHERE u.endpoint_name = 'joined'"
    )
    assert sorted(map(tuple, joined.collect())) == [
        ("joined-1", "gpt-4o", "gpt-4o", "joined"), ("joined-2", "backup", "backup", "joined"), ("joined-3", None, None, None),
    ]  # fmt: skip


def test_a_changed_prefix_starts_a_new_table_and_leaves_the_old(job: RunningJob, mixed: Mixed) -> None:
    assert ids(job.rows("prefix.logs.old_request_response")) == ["prefix-1"]
    assert ids(job.rows("prefix.logs.new_request_response")) == ["prefix-2"]
    assert job.rows("prefix.logs.old_assessment") == [] == job.rows("prefix.logs.new_assessment")


def test_a_request_id_is_recorded_again_after_24_hours_and_not_before(job: RunningJob, mixed: Mixed) -> None:
    job.produce([again(DAY_MS - 1, "days-copy"), again(DAY_MS, "days-new")])
    job.settle()
    assert ids(job.rows("days.logs.again_request_response")) == ["days-copy", "days-new", "days-new"]


def test_both_tables_are_there_and_empty_as_soon_as_they_are_configured(job: RunningJob, mixed: Mixed) -> None:
    assert job.rows("early.logs.early_request_response") == [] == job.rows("early.logs.early_assessment")
    assert not (job.warehouse / "off").exists()


def test_served_entities_have_a_row_for_each_change_and_show_when_the_endpoint_was_deleted(job: RunningJob, mixed: Mixed) -> None:
    rows = job.rows(ENTITIES, "endpoint_name LIKE 'entities%'")
    assert sorted((r["served_entity_name"], r["endpoint_config_version"], r["tags"]["team"]) for r in rows) == [
        ("a", 1, "search"), ("a", 2, "ads"), ("b", 1, "search"),
    ]  # fmt: skip
    assert all(r["endpoint_name"] == "entities" and r["endpoint_delete_time"] is None for r in rows)
    newest = next(r for r in rows if r["endpoint_config_version"] == 2)
    assert utc(newest["change_time"]) == time_of(CHANGED.last_updated_timestamp)
    assert (newest["entity_type"], newest["entity_name"], newest["task"], newest["created_by"]) == (
        "EXTERNAL_MODEL", "gpt-4o", "llm/v1/chat", "admin",
    )  # fmt: skip
    assert newest["external_model_config"] == {"provider": "openai"} and newest["endpoint_id"] == "id-of-entities"

    # Deleted, made again, deleted and made again, all in one batch.
    deletion = (ENDPOINTS.name, b"entities", None)
    sent: list[Any] = []
    messages = [deletion, endpoint("entities", endpoint_id="second"), deletion, endpoint("entities", endpoint_id="third")]
    job.restart(lambda: sent.extend(job.produce(messages)))
    job.settle()
    rows = job.rows(ENTITIES, "endpoint_name = 'entities'")
    assert {utc(r["endpoint_delete_time"]) for r in rows if r["endpoint_id"] == "id-of-entities"} == {time_of(sent[0].timestamp)}
    later = {r["endpoint_id"]: r["endpoint_delete_time"] for r in rows if r["endpoint_id"] != "id-of-entities"}
    assert (utc(later["second"]), later["third"]) == (time_of(sent[2].timestamp), None) and len(rows) == 5


def test_no_child_process_is_started_for_a_file(job: RunningJob) -> None:
    """Hadoop's own classes start `chmod` and `readlink`."""
    context = job.spark.sparkContext
    jvm, conf = context._jvm, context._jsc.hadoopConfiguration()
    assert jvm.org.apache.hadoop.fs.FileSystem.getLocal(conf).getClass().getName() == "sluice.LocalFiles"
    other = jvm.org.apache.hadoop.fs.FileContext.getLocalFSFileContext(conf).getDefaultFileSystem()
    assert other.getClass().getName() == "sluice.LocalFiles$Context"
    log = job.warehouse / "system" / "internal" / "landing" / "_delta_log"
    assert {file.stat().st_mode & 0o777 for file in log.glob("*.json")} == {0o644}
