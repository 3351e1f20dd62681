"""The dashboard's figures are those of the tables, recounted in plain Python, and the page holds them."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jobs.dashboard import Figures, run
from jobs.dashboard_page import page
from jobs.prices import Price, apply_prices
from jobs.session import spark_session
from pipeline.records import Assessment, Attempt, InferenceRecord
from pipeline.topics import HOUR_MS
from tests.jobs.recount import percentile
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, record

pytestmark = pytest.mark.timeout(300)

TABLES = {"chat": ("shown", "logs", "chat"), "search": ("shown", "logs", "search")}
BLOCKED = Assessment(assessment_type="PII", assessment_result="BLOCKED", assessment_details='{"count":1}', direction="input")
OUTCOMES = [(200, "ok"), (200, "ok"), (429, "refused"), (400, "blocked"), (502, "failed")]


def made(rng: random.Random, number: int) -> InferenceRecord:
    """One of a day of mixed traffic."""
    name = rng.choice(list(TABLES))
    status, finish = rng.choice(OUTCOMES)
    served = status == 200
    attempts = (
        [Attempt(served_entity_name="first", status_code=503, error="away", execution_time_ms=3)] if served and rng.random() < 0.3 else []
    )
    last = "backup" if attempts else "first"
    return record(
        TABLES[name], request_id=f"d{number}", endpoint_name=name, status_code=status, finish=finish, usage_tracking=True,
        requester=rng.choice(["alice@example.com", "bob@example.com", "<b>mallory</b>@example.com"]),
        tags={"team": rng.choice(["ads", "search"])}, timestamp_ms=NOW_MS - rng.randrange(20 * HOUR_MS),
        execution_time_ms=rng.randrange(1, 900), input_tokens=rng.randrange(100) if served else 0,
        output_tokens=rng.randrange(100) if served else 0, served_entity_name=last if served else None,
        served_entity_id=f"id-of-{name}-{last}" if served else None, served_model_name="gpt-4o" if served else None,
        attempts=[*attempts, Attempt(served_entity_name=last, status_code=200, error=None, execution_time_ms=9)] if served else [],
        assessments=[BLOCKED] if finish == "blocked" else [],
    )  # fmt: skip


@pytest.fixture(scope="module")
def sent(own_job: RunningJob) -> list[InferenceRecord]:
    """Records of a day, in the tables."""
    rng = random.Random(7)
    records = [made(rng, number) for number in range(300)]
    own_job.produce([*[endpoint(name, table, ("first", "backup")) for name, table in TABLES.items()], *records])
    own_job.settle()
    old = datetime(2026, 1, 1, tzinfo=UTC)
    spark = spark_session(own_job.settings)
    apply_prices(
        spark, own_job.warehouse, [Price(model="gpt-4o", valid_from=old, input_per_million=Decimal(2), output_per_million=Decimal(8))]
    )
    return records


@pytest.fixture(scope="module")
def figures(own_job: RunningJob, sent: list[InferenceRecord]) -> Figures:
    return run(spark_session(own_job.settings), own_job.warehouse, 7)


def hour_of(one: InferenceRecord) -> str:
    return f"{datetime(1970, 1, 1) + timedelta(hours=one.timestamp_ms // HOUR_MS):%Y-%m-%d %H:00:00}"


def test_each_hour_is_that_of_a_recount(sent: list[InferenceRecord], figures: Figures) -> None:
    assert {row["hour"] for row in figures.tables["hourly"]} == {hour_of(one) for one in sent}
    for row in figures.tables["hourly"]:
        those = [one for one in sent if hour_of(one) == row["hour"]]
        times = [one.execution_time_ms for one in those]
        assert row["requests"] == len(those)
        assert row["total_tokens"] == sum(one.input_tokens + one.output_tokens for one in those)
        assert row["avg_latency_ms"] == pytest.approx(sum(times) / len(times), abs=0.5)
        assert row["p95_latency_ms"] == pytest.approx(percentile(times, 0.95), abs=0.5)
        assert float(row["error_rate_pct"]) == pytest.approx(100 * sum(one.status_code >= 400 for one in those) / len(those), abs=0.005)
        assert row["rate_limited"] == sum(one.status_code == 429 for one in those)
        assert row["blocked"] == sum(one.finish == "blocked" for one in those)
        assert row["fallbacks"] == sum(len(one.attempts) > 1 for one in those)


def test_costs_users_and_served_entities_are_those_of_a_recount(sent: list[InferenceRecord], figures: Figures) -> None:
    costs: Counter[str] = Counter()
    for one in sent:
        costs[one.tags["team"]] += one.input_tokens * 2 + one.output_tokens * 8
    assert {row["value"]: row["cost"] for row in figures.tables["tags"]} == {t: Decimal(c) / 1_000_000 for t, c in costs.items()}
    assert sum(row["cost"] for row in figures.tables["endpoints"]) == Decimal(sum(costs.values())) / 1_000_000
    assert {row["requester"]: row["requests"] for row in figures.tables["users"]} == Counter(one.requester for one in sent)
    answers = Counter((one.endpoint_name, one.served_entity_name) for one in sent if one.served_entity_name)
    assert {(row["endpoint_name"], row["served_entity_name"]): row["answers"] for row in figures.tables["entities"]} == answers
    assert len(figures.tables["reviews"]) == min(50, sum(one.finish == "blocked" for one in sent))
    assert figures.tables["unpriced"] == [{"requests": 0}]


def test_its_tables_can_be_queried(own_job: RunningJob, figures: Figures) -> None:
    rows = own_job.rows("system.serving.dashboard_hourly")
    assert sum(row["requests"] for row in rows) == 300


def test_the_page_says_it_all_and_runs_nothing_that_a_user_has_named(figures: Figures) -> None:
    text = page(figures, datetime(2026, 11, 27, 12, 0, tzinfo=UTC))
    own = text[text.index("</script>") :]
    assert "$" not in "".join(line for line in own.splitlines() if "tile" in line)
    assert "&lt;b&gt;mallory&lt;/b&gt;@example.com" in own
    assert "<b>mallory" not in own
    assert "http://" not in own and "https://" not in own
    for heading in (
        "Requests per hour",
        "Tokens per hour",
        "Latency",
        "Error rate",
        "Cost by team",
        "Answers by served entity",
        "Top users",
    ):
        assert f"<h2>{heading}</h2>" in own


def test_a_page_without_any_request_says_so() -> None:
    none: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("hourly", "endpoints", "entities", "users", "tags", "findings", "reviews")
    }
    text = page(Figures(7, {**none, "unpriced": [{"requests": 0}]}, 0), datetime(2026, 11, 27, tzinfo=UTC))
    assert "No requests in this period." in text
