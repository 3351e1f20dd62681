"""Every SQL query of the specification, cut out of the document, run as it stands over real traffic, and recounted by other means.

The traffic comes through the HTTP door: answered, refused, blocked, failed, and answered by a fallback; beside it lie a few records
of earlier days, put where the gateway puts its own, on the edges of the days and of the last seven days. What is expected comes from
what was sent and from the tables' plain rows, in Python. A query without a recount here fails the test.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs import sql
from jobs.session import spark_session
from pipeline.kafka.connection import new_producer
from pipeline.records import Assessment, InferenceRecord, InferenceTable
from pipeline.settings import Settings
from pipeline.topics import DAY_MS, RECORDS
from tests.jobs.recount import Rows, grouped, percentile, total, utc

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

SPECIFICATION = Path(__file__).parents[1] / "specification" / "ai-gateway.md"
DOCUMENT = SPECIFICATION.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sql\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
TABLE = {"catalog_name": "my_catalog", "schema_name": "my_schema", "table_name_prefix": "my_prefix", "enabled": True}
REQUESTS, ASSESSMENTS = "my_catalog.my_schema.my_prefix_request_response", "my_catalog.my_schema.my_prefix_assessment"
USERS = ("alice@example.com", "bob@example.com", "carol@example.com")


def queries() -> dict[str, str]:
    """Each statement of the document under its own first comment, or under the heading that it follows."""
    found: dict[str, str] = {}
    heading = ""
    for match in re.finditer(r"^#+ (?P<heading>[^\n]+)$|^```sql\n(?P<block>.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL):
        if match["block"] is None:
            heading = match["heading"]
            continue
        for statement in re.split(r";\s*$", match["block"], flags=re.MULTILINE):
            if statement.strip():
                comment = re.match(r"\s*-- (.*)", statement)
                title = comment[1].strip() if comment else heading
                assert title not in found, f"two queries are called {title!r}"
                found[title] = statement
    return found


# --- the traffic


@dataclass
class Sent:
    """What the test knows of its own requests."""

    statuses: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    earlier: dict[str, InferenceRecord] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def ids(self) -> set[str]:
        return set(self.statuses) | set(self.earlier)


def endpoints(stack: Any) -> dict[str, dict[str, Any]]:
    """The endpoints whose requests share the table."""
    return {
        "answered": {},
        "limited": {"ai_gateway": {"rate_limits": [{"calls": 4, "renewal_period": "day", "key": "user"}]}},
        "blocked": {"ai_gateway": {"guardrails": {"input": {"invalid_keywords": ["confidential"]}}}},
        "blocked-answer": {
            "entities": [stack.entity("say-an_exception_happened")],
            "ai_gateway": {"guardrails": {"output": {"invalid_keywords": ["exception"]}}},
        },
        "pii": {"ai_gateway": {"guardrails": {"input": {"pii": {"behavior": "BLOCK"}}}}},
        "failed": {"entities": [stack.entity("fail-500")]},
        "refused-by-provider": {"entities": [stack.entity("fail-400")]},
        "fallback": {
            "entities": [stack.entity("fail-503", "first"), stack.entity("demo-large", "second")],
            "ai_gateway": {"fallback_config": {"enabled": True}},
        },
    }


def questions() -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Who asks which endpoint what."""

    def message(text: str, role: str = "user") -> dict[str, Any]:
        return {"role": role, "content": text}

    for number in range(90):
        more = "".join(f" and {word}" for word in ("water", "stone", "light")[: number % 4])
        messages = [message(f'Question {number}: "quoted", back\\slash, ünïcode 🌊\nand a second line{more}?')]
        if number % 3 == 0:
            messages = [message("Be brief.", "system"), *messages]
        yield USERS[number % 3], "answered", messages
    for number in range(14):
        yield USERS[number % 2], "limited", [message(f"Again, number {number}")]
    for number in range(5):
        yield USERS[2], "blocked", [message(f"Our confidential plan {number}")]
    for _ in range(3):
        yield USERS[1], "blocked-answer", [message("What happened?")]
    for _ in range(2):
        yield USERS[0], "pii", [message("Write to someone@example.com")]
    for _ in range(3):
        yield USERS[0], "failed", [message("Will it work?")]
    for _ in range(2):
        yield USERS[0], "refused-by-provider", [message("Will it work?")]
    for _ in range(6):
        yield USERS[2], "fallback", [message("Is anybody there?")]


def earlier_records() -> Iterator[InferenceRecord]:
    """Rows of other days, on both sides of every edge that a query has, and some with what today's traffic can't have."""
    midnight_ms = int(datetime.combine(datetime.now(UTC).date(), time(), UTC).timestamp() * 1000)
    week_ms = midnight_ms - 7 * DAY_MS
    masked = Assessment(assessment_type="PII", assessment_result="MASKED", assessment_details='{"count":1}', direction="output")
    blocked = Assessment(assessment_type="SAFETY", assessment_result="BLOCKED", assessment_details='{"score":0.9}', direction="input")
    times = [midnight_ms, midnight_ms - 1, midnight_ms + 1, week_ms, week_ms - 1, week_ms + 1, midnight_ms - 3 * DAY_MS + 3_599_999,
             midnight_ms - 3 * DAY_MS + 3_600_000, midnight_ms - 40 * DAY_MS]  # fmt: skip
    for place, timestamp_ms in enumerate(times):
        for twin in range(2):
            status = (200, 200, 500)[(place + twin) % 3]
            yield InferenceRecord(
                request_id=str(uuid.uuid4()), run_id="1", timestamp_ms=timestamp_ms, endpoint_name="spec-sql-earlier",
                requester=USERS[twin], task="llm/v1/chat",
                request=None if place == 4 else '{"messages":[]}', response='{"choices":[]}', status_code=status,
                finish="ok" if status == 200 else "failed", execution_time_ms=17 * place + 400 * twin, input_tokens=3 * place + 1,
                output_tokens=7 * twin, assessments=[masked, blocked] if place < 3 else [], inference_table=InferenceTable(**_TABLE_NAMES),
            )  # fmt: skip


_TABLE_NAMES: dict[str, Any] = {name: value for name, value in TABLE.items() if name != "enabled"}


async def produce(kafka: str, records: list[InferenceRecord]) -> None:
    producer = new_producer(Settings(kafka=kafka), "test")
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(RECORDS.name, record.model_dump_json().encode(), key=record.request_id.encode())
    finally:
        await producer.stop()


@pytest.fixture(scope="module")
def sent(stack: Any) -> Iterator[Sent]:
    """All traffic, when the tables have taken it over."""
    told = Sent()
    made = endpoints(stack)
    for name, options in made.items():
        ai_gateway = {"inference_table_config": TABLE, **options.get("ai_gateway", {})}
        stack.create_endpoint(f"spec-sql-{name}", ai_gateway, options.get("entities"))
    clients = {user: stack.http(stack.token(user)) for user in USERS}

    def ask(question: tuple[str, str, list[dict[str, Any]]]) -> None:
        user, name, messages = question
        answer = clients[user].post(f"/serving-endpoints/spec-sql-{name}/invocations", json={"messages": messages})
        request_id = answer.headers["x-request-id"]
        # Of personal data the tables hold the masked copy.
        kept = [message | {"content": message["content"].replace("someone@example.com", "[REDACTED]")} for message in messages]
        told.statuses[request_id], told.messages[request_id] = answer.status_code, kept
        told.answers[request_id], told.kinds[request_id] = answer.json(), name

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, questions()))
        told.earlier = {record.request_id: record for record in earlier_records()}
        asyncio.run(produce(stack.kafka, list(told.earlier.values())))
        stack.wait_rows(REQUESTS, len(told.ids()), timeout_s=90)
        yield told
    finally:
        for client in clients.values():
            client.close()
        for name in made:
            stack.delete_endpoint(f"spec-sql-{name}")


# --- the recounts: (the query's rows, all rows of the request table, all rows of the assessment table, what was sent, today)


@dataclass
class Known:
    """What a recount may use."""

    requests: Rows
    assessments: Rows
    sent: Sent
    today: date

    @property
    def by_id(self) -> dict[str, dict[str, Any]]:
        return {row["request_id"]: row for row in self.requests}


RECOUNTS: dict[str, Callable[[Rows, Known], None]] = {}


def recount(title: str) -> Callable[[Callable[[Rows, Known], None]], Callable[[Rows, Known], None]]:
    """Registers the recount of the query under that title."""

    def register(check: Callable[[Rows, Known], None]) -> Callable[[Rows, Known], None]:
        RECOUNTS[title] = check
        return check

    return register


def at(row: dict[str, Any]) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=row["timestamp_ms"])


def hour_of(row: dict[str, Any]) -> datetime:
    return at(row).replace(minute=0, second=0, microsecond=0)


def newest_first(rows: Rows, key: Callable[[dict[str, Any]], Any]) -> list[tuple[Any, Rows]]:
    return sorted(grouped(rows, key).items(), reverse=True)


def descending(values: list[int]) -> bool:
    return all(a >= b for a, b in zip(values, values[1:], strict=False))


def columns(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


@recount("Recent requests")
def _(answer: Rows, known: Known) -> None:
    of_today = [row for row in known.requests if at(row).date() == known.today]
    assert 100 < len(of_today) < len(known.requests), "the limit and the day must both leave something out"
    assert len(answer) == 100 == len({row["request_id"] for row in answer})
    newest = sorted((row["timestamp_ms"] for row in of_today), reverse=True)[:100]
    assert [row["timestamp_ms"] for row in answer] == newest
    for row in answer:
        assert row == columns(known.by_id[row["request_id"]], *row)
        assert row["status_code"] == known.sent.statuses[row["request_id"]]
        assert json.loads(row["request"])["messages"] == known.sent.messages[row["request_id"]]
        assert json.loads(row["response"]) == known.sent.answers[row["request_id"]] or row["status_code"] != 200


@recount("Error analysis")
def _(answer: Rows, known: Known) -> None:
    statuses = Counter(known.sent.statuses.values()) + Counter(r.status_code for r in known.sent.earlier.values())
    wrong = {status: count for status, count in statuses.items() if status >= 400}
    assert {429, 400, 502, 500} <= set(wrong)
    assert {row["status_code"]: row["error_count"] for row in answer} == wrong and len(answer) == len(wrong)
    assert descending([row["error_count"] for row in answer])
    for row in answer:
        assert known.by_id[row["sample_request_id"]]["status_code"] == row["status_code"]


@recount("Token usage by hour")
def _(answer: Rows, known: Known) -> None:
    expected = [(h, total(g, "input_tokens"), total(g, "output_tokens"), len(g)) for h, g in newest_first(known.requests, hour_of)]
    assert [(utc(r["hour"]), r["total_input_tokens"], r["total_output_tokens"], r["request_count"]) for r in answer] == expected


def _contents(request_id: str, known: Known) -> list[str] | None:
    """The texts of all messages, as the query writes them: JSON; None where there are none."""
    messages = known.sent.messages.get(request_id)
    return [m["content"] for m in messages] if messages else None


@recount("Extract user messages")
def _(answer: Rows, known: Known) -> None:
    assert len(answer) in (10, len(known.requests)) and len({row["request_id"] for row in answer}) == len(answer)
    for row in answer:
        contents = _contents(row["request_id"], known)
        told = json.loads(row["user_content"]) if row["user_content"] else None
        # A single text comes as itself, several as a list.
        assert told == (contents[0] if contents and len(contents) == 1 else contents)
        said = known.sent.answers.get(row["request_id"], {}).get("choices", [{}])[0].get("message", {}).get("content")
        assert row["assistant_response"] == said


@recount("Blocked requests")
def _(answer: Rows, known: Known) -> None:
    names = ("request_id", "timestamp_ms", "assessment_type", "assessment_result", "assessment_details")
    expected = [columns(row, *names) for row in known.assessments if row["assessment_result"] == "BLOCKED"]
    assert 0 < len(expected) < len(known.assessments)
    assert sorted(answer, key=str) == sorted(expected, key=str) and descending([row["timestamp_ms"] for row in answer])
    blocked = {i for i, kind in known.sent.kinds.items() if kind in ("blocked", "blocked-answer", "pii")}
    assert {row["request_id"] for row in answer if row["request_id"] in known.sent.statuses} == blocked
    assert {known.sent.statuses[i] for i in blocked if known.sent.kinds[i] != "pii"} == {400}


@recount("PII detections")
def _(answer: Rows, known: Known) -> None:
    expected = [columns(row, "request_id", "assessment_details") for row in known.assessments if row["assessment_type"] == "PII"]
    assert sorted(answer, key=str) == sorted(expected, key=str)
    assert descending([known.by_id[row["request_id"]]["timestamp_ms"] for row in answer])
    with_pii = {i for i, kind in known.sent.kinds.items() if kind == "pii"} | {i for i, r in known.sent.earlier.items() if r.assessments}
    assert {row["request_id"] for row in answer} == with_pii


@recount("Daily token usage")
def _(answer: Rows, known: Known) -> None:
    expected = [
        (day, total(g, "input_tokens"), total(g, "output_tokens"), total(g, "input_tokens", "output_tokens"), len(g))
        for day, g in newest_first(known.requests, lambda row: at(row).date())
    ]
    assert len(expected) >= 5
    assert [tuple(row[c] for c in ("date", "input_tokens", "output_tokens", "total_tokens", "requests")) for row in answer] == expected


@recount("Cost estimation (example rates)")
def _(answer: Rows, known: Known) -> None:
    rate_in, rate_out = Decimal("0.00001"), Decimal("0.00003")
    expected = []
    for day, group in newest_first(known.requests, lambda row: at(row).date()):
        tokens_in, tokens_out = total(group, "input_tokens"), total(group, "output_tokens")
        expected.append((day, tokens_in * rate_in, tokens_out * rate_out, tokens_in * rate_in + tokens_out * rate_out))
    assert [tuple(row[c] for c in ("date", "input_cost", "output_cost", "total_cost")) for row in answer] == expected


def rounded(value: float | Decimal, places: str) -> Decimal:
    return Decimal(repr(value) if isinstance(value, float) else value).quantize(Decimal(places), ROUND_HALF_UP)


@recount("Monitoring Dashboard Query")
def _(answer: Rows, known: Known) -> None:
    start_ms = datetime.combine(known.today - timedelta(days=7), time(), UTC).timestamp() * 1000
    recent = [row for row in known.requests if row["timestamp_ms"] > start_ms]
    assert len(recent) < len(known.requests), "something must be older"
    expected = []
    for hour, group in newest_first(recent, hour_of):
        times = [row["execution_time_ms"] for row in group]
        errors = sum(row["status_code"] >= 400 for row in group)
        expected.append((
            hour, len(group), total(group, "input_tokens", "output_tokens"), rounded(sum(times) / len(times), "1"),
            rounded(percentile(times, 0.95), "1"), rounded(Decimal(100) * errors / len(group), "0.01"),
        ))  # fmt: skip
    names = ("requests", "total_tokens", "avg_latency_ms", "p95_latency_ms", "error_rate_pct")
    assert [(utc(row["hour"]), *(row[name] for name in names)) for row in answer] == expected


# --- the tests


def test_every_query_of_the_document_has_its_recount() -> None:
    assert set(queries()) == set(RECOUNTS)
    # However a block is fenced: none may go unseen.
    assert len(BLOCKS) == len(re.findall(r"^\s*(?:```|~~~)+\s*(?:\w*sql)\b", DOCUMENT, re.MULTILINE | re.IGNORECASE)) > 0
    assert set(re.findall(r"FROM (\w+\.\w+\.\w+)", "".join(BLOCKS))) == {REQUESTS, ASSESSMENTS}


def test_the_rows_are_those_of_the_requests(stack: Any, sent: Sent) -> None:
    rows = stack.rows(REQUESTS)
    assert len(rows) == len({row["request_id"] for row in rows})
    by_id = {row["request_id"]: row for row in rows}
    assert sent.ids() <= set(by_id)
    for request_id, status in sent.statuses.items():
        row = by_id[request_id]
        assert (row["status_code"], json.loads(row["request"])["messages"]) == (status, sent.messages[request_id])
    outcomes = {kind: Counter(by_id[i]["finish"] for i, k in sent.kinds.items() if k == kind) for kind in set(sent.kinds.values())}
    assert outcomes["answered"] == {"ok": 90} and outcomes["fallback"] == {"ok": 6}
    assert outcomes["failed"] == {"failed": 3} and outcomes["refused-by-provider"] == {"rejected": 2}
    assert outcomes["blocked"] == {"blocked": 5} and outcomes["blocked-answer"] == {"blocked": 3}
    assert outcomes["limited"]["refused"] >= 4
    fallback = [by_id[i] for i, kind in sent.kinds.items() if kind == "fallback"]
    assert all([a["served_entity_name"] for a in row["attempts"]] == ["first", "second"] for row in fallback)


def asked(stack: Any, sent: Sent, statement: str) -> tuple[Rows, Known]:
    """A statement's answer and what is known for its recount, both of the same day."""
    spark = spark_session(Settings(data=stack.data))
    while True:
        today = datetime.now(UTC).date()
        answer = [row.asDict(recursive=True) for row in spark.sql(statement).collect()]
        known = Known(stack.rows(REQUESTS), stack.rows(ASSESSMENTS), sent, today)
        if datetime.now(UTC).date() == today:
            return answer, known


@pytest.mark.parametrize("title", sorted(RECOUNTS))
def test_a_query_runs_as_it_stands_and_equals_its_recount(stack: Any, sent: Sent, title: str) -> None:
    RECOUNTS[title](*asked(stack, sent, queries()[title]))


def test_the_messages_of_all_rows_are_extracted(stack: Any, sent: Sent) -> None:
    # The document's own query shows any ten rows; without its limit, each row must be right.
    answer, known = asked(stack, sent, queries()["Extract user messages"].replace("LIMIT 10", ""))
    assert len(answer) == len(known.requests)
    RECOUNTS["Extract user messages"](answer, known)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_a_whole_block_runs_with_its_comments_and_semicolons(stack: Any, sent: Sent, block: str) -> None:
    text = sql.run(block, Settings(data=stack.data), "json")
    decoder, answers, place = json.JSONDecoder(), [], 0
    while place < len(text):
        answer, place = decoder.raw_decode(text, place)
        place += 1
        answers.append(answer)
    statements = [s for s in queries().values() if s in block]
    assert len(answers) == len(statements) > 0
    spark = spark_session(Settings(data=stack.data))
    for answer, statement in zip(answers, statements, strict=True):
        assert answer and list(answer[0]) == spark.sql(statement).columns
