"""What was spent: exact sums at the prices of the requests' times, prices that change, and pricing again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jobs.costs import Costs, Difference
from jobs.prices import Price, apply_prices, read_prices
from jobs.session import spark_session
from pipeline.errors import InvalidParameter
from tests.jobs.recount import utc
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, record

pytestmark = pytest.mark.timeout(240)

ENDPOINT = "spends"
HOUR_MS = 3_600_000
THIS_HOUR = datetime.fromtimestamp(NOW_MS // HOUR_MS * 3600, UTC)
TWO_HOURS_AGO = THIS_HOUR - timedelta(hours=2)


def price(of_input: str, of_output: str, since: datetime, model: str = "gpt-4o") -> Price:
    return Price(model=model, valid_from=since, input_per_million=Decimal(of_input), output_per_million=Decimal(of_output))


def spent(team: str | None, ago_h: float, of_input: int, of_output: int, **fields: Any) -> Any:
    usual: dict[str, Any] = {
        "endpoint_name": ENDPOINT, "served_entity_name": "first", "served_entity_id": f"id-of-{ENDPOINT}-first", "usage_tracking": True,
        "tags": {"team": team} if team else {}, "timestamp_ms": int(THIS_HOUR.timestamp() * 1000) - int(ago_h * HOUR_MS),
        "input_tokens": of_input, "output_tokens": of_output,
    }  # fmt: skip
    return record(**{**usual, **fields})


def cells(costs: Costs) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = [row.asDict() for row in costs.table.read().where(f"endpoint_name = '{ENDPOINT}'").collect()]
    assert len({(r["hour"], r["tags"].get("team"), r["model"]) for r in rows}) == len(rows)
    return {(utc(r["hour"]), r["tags"].get("team"), r["model"]): (r["requests"], r["unpriced_requests"], r["cost"]) for r in rows}


@pytest.fixture(scope="module")
def costs(job: RunningJob) -> Costs:
    """Three hours of requests of two teams; the price doubles half an hour into the second."""
    job.produce([endpoint(ENDPOINT)])
    job.settle()
    spark = spark_session(job.settings)
    doubled = TWO_HOURS_AGO + timedelta(minutes=30)
    apply_prices(spark, job.warehouse, [price("2.50", "10", datetime(2026, 1, 1, tzinfo=UTC)), price("5", "20", doubled)])
    job.produce(
        [
            spent("search", 3, 100, 10),
            spent("search", 3, 1, 1),
            spent("ads", 3, 7, 0),
            spent("search", 2, 100, 10),
            spent("search", 1.4, 100, 10),
            spent(None, 1, 0, 0, served_entity_name=None, served_entity_id=None, status_code=429),
        ]
    )
    job.settle()
    return Costs(spark, job.warehouse)


def test_each_request_costs_its_tokens_at_the_price_of_its_time(costs: Costs) -> None:
    assert costs.refresh() >= 3
    found = cells(costs)
    assert found[TWO_HOURS_AGO - timedelta(hours=1), "search", "gpt-4o"] == (2, 0, Decimal("0.000362500000"))
    assert found[TWO_HOURS_AGO - timedelta(hours=1), "ads", "gpt-4o"] == (1, 0, Decimal("0.000017500000"))
    assert found[TWO_HOURS_AGO, "search", "gpt-4o"] == (2, 0, Decimal("0.00035") + Decimal("0.0007"))
    assert found[TWO_HOURS_AGO + timedelta(hours=1), None, None] == (1, 0, Decimal(0))
    assert costs.refresh() == 0


def test_a_late_request_is_priced_and_a_corrected_price_changes_nothing_by_itself(job: RunningJob, costs: Costs) -> None:
    costs.refresh()
    before = cells(costs)
    spark = spark_session(job.settings)
    apply_prices(spark, job.warehouse, [price("25", "100", datetime(2026, 1, 1, tzinfo=UTC))])
    job.produce([spent("ads", 1, 1_000_000, 0)])
    job.settle()
    assert costs.refresh() == 1
    after = cells(costs)
    assert {key: cell for key, cell in after.items() if key in before and key[0] != TWO_HOURS_AGO + timedelta(hours=1)} == {
        key: cell for key, cell in before.items() if key[0] != TWO_HOURS_AGO + timedelta(hours=1)
    }
    assert after[TWO_HOURS_AGO + timedelta(hours=1), "ads", "gpt-4o"] == (1, 0, Decimal(25))


def test_a_period_that_is_priced_again_says_by_how_much(job: RunningJob, costs: Costs) -> None:
    costs.refresh()
    before = cells(costs)[TWO_HOURS_AGO, "search", "gpt-4o"][2]
    apply_prices(spark_session(job.settings), job.warehouse, [price("1", "1", datetime(2026, 1, 1, tzinfo=UTC))])
    (difference,) = [d for d in costs.reprice(TWO_HOURS_AGO, TWO_HOURS_AGO + timedelta(hours=1)) if d.model == "gpt-4o"]
    after = cells(costs)[TWO_HOURS_AGO, "search", "gpt-4o"][2]
    assert after == Decimal("0.00022")
    assert difference.after - difference.before == after - before
    assert isinstance(difference, Difference)
    assert cells(costs)[TWO_HOURS_AGO - timedelta(hours=1), "search", "gpt-4o"][2] != Decimal("0.000112")


def test_what_has_no_price_is_counted_and_costs_nothing_known(job: RunningJob, costs: Costs) -> None:
    apply_prices(spark_session(job.settings), job.warehouse, [price("1", "1", datetime(2026, 1, 1, tzinfo=UTC), "another")])
    costs.reprice(TWO_HOURS_AGO, TWO_HOURS_AGO + timedelta(hours=1))
    assert cells(costs)[TWO_HOURS_AGO, "search", "gpt-4o"] == (2, 2, None)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([{"model": "m", "valid_from": "2026-01-01", "input_per_million": 1}], "output_per_million"),
        ([{"model": "m", "valid_from": "2026-01-01", "input_per_million": -1, "output_per_million": 1}], "input_per_million"),
        ([{"model": "m", "valid_from": "never", "input_per_million": 1, "output_per_million": 1}], "valid_from"),
        ([{"model": "m", "valid_from": "2026-01-01", "input_per_million": 1, "output_per_million": 1}] * 2, "two prices of m"),
        ("no list", "no list of prices"),
    ],
)
def test_a_file_that_is_wrong_names_what_is(document: Any, named: str) -> None:
    with pytest.raises(InvalidParameter, match=named):
        read_prices(document, "prices.yaml")


def test_a_price_is_what_is_written() -> None:
    (read,) = read_prices([{"model": "m", "valid_from": "2026-01-01", "input_per_million": 0.1, "output_per_million": "3.30"}], "f")
    assert (read.input_per_million, read.output_per_million) == (Decimal("0.1"), Decimal("3.30"))
    assert read.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
