"""The table of replays: one commit however often it is made, both sides priced as of today; and tables of before replays were known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql.types import StructType

from jobs.delta import DeltaFolder
from jobs.erased_users import ErasedUsers
from jobs.landing import NAME as LANDING_NAME
from jobs.landing import PROPERTIES, STATS, Landing
from jobs.prices import apply_prices, read_prices
from jobs.replay import NAME, full_name, keep, logged
from jobs.schemas import LANDING
from pipeline.replay.folder import Plan, ReplayFailed
from pipeline.replay.records import Result
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, record
from tests.replay.test_folder import a_result, an_original

PLAN = Plan(
    replay_id="one", table="a.b.c_request_response", where="true", endpoint="two", limit=None, requests=3, skipped={}, finished=False
)  # fmt: skip
DEAR, CHEAP = "dear", "cheap"


def prices() -> list[dict[str, str]]:
    def price(model: str, days: int, both: str) -> dict[str, str]:
        day = datetime.now(UTC) + timedelta(days=days)
        return {"model": model, "valid_from": f"{day:%Y-%m-%d}", "input_per_million": both, "output_per_million": both}

    return [price(DEAR, -9, "9"), price(DEAR, -2, "2"), price(DEAR, 2, "5"), price(CHEAP, -9, "1")]


def test_a_replay_is_kept_once_with_both_sides_priced_at_todays_prices(job: RunningJob, tmp_path: Path) -> None:
    apply_prices(job.spark, tmp_path, read_prices(prices(), "prices"))
    originals = [an_original(place).model_copy(update={"model": DEAR if place < 2 else None}) for place in range(3)]
    failed = Result.model_validate({**a_result(1).model_dump(), "served_entity": None, "input_tokens": 0, "output_tokens": 0})
    results = {0: a_result(0), 1: failed, 2: a_result(2)}
    found = keep(job.spark, tmp_path, PLAN, originals, results, {"e": CHEAP})
    # Again, as after a kill behind the commit, and at other prices.
    apply_prices(job.spark, tmp_path, read_prices(prices()[:1], "prices"))
    again = keep(job.spark, tmp_path, PLAN, originals, results, {"e": CHEAP})
    assert [{**row, "replayed_at": None} for row in again] == [{**row, "replayed_at": None} for row in found]
    assert [(row["replay_of"], row["request_id"], row["original_model"], row["model"]) for row in found] == [
        ("r0", "new0", DEAR, CHEAP), ("r1", "new1", DEAR, None), ("r2", "new2", None, CHEAP),
    ]  # fmt: skip
    million = Decimal(1_000_000)
    # Two tokens each; one that called nobody costs nothing, one whose model is not known has no price.
    assert [row["original_cost"] for row in found] == [4 / million, 4 / million, None]
    assert [row["cost"] for row in found] == [2 / million, 0, 2 / million]
    assert found[0]["replayed_at"] is not None and found[0]["similarity"] == 0.5
    other = keep(job.spark, tmp_path, PLAN.model_copy(update={"replay_id": "two"}), originals[:1], results, {"e": CHEAP})
    assert len(other) == 1 and DeltaFolder(job.spark, tmp_path.joinpath(*NAME)).read().count() == 4


def test_what_is_replayed_are_the_rows_of_the_condition_the_oldest_first_with_their_models(job: RunningJob) -> None:
    table = ("replayed", "logs", "a")
    sent = [record(table, request_id=f"p{n}", timestamp_ms=NOW_MS - n, endpoint_name="p", served_entity_name="first") for n in range(4)]
    other = record(table, request_id="q", endpoint_name="q", served_entity_name="first", served_model_name="said")
    job.produce([endpoint("p", table), *sent, other])
    job.settle()

    def chosen(where: str, limit: int | None = None) -> list[tuple[str, str]]:
        rows = logged(job.spark, job.warehouse, full_name("replayed.logs.a"), where, limit)
        return [(row["request_id"], row["model"]) for row in rows]

    assert chosen("endpoint_name = 'p'", 2) == [("p3", "gpt-4o"), ("p2", "gpt-4o")]
    assert chosen("request_id = 'q'") == [("q", "said")]
    with pytest.raises(ReplayFailed, match="where no_such_column = 1 can't be read"):
        chosen("no_such_column = 1")
    with pytest.raises(ReplayFailed, match=r"the rows of replayed\.logs\.b_request_response"):
        list(logged(job.spark, job.warehouse, full_name("replayed.logs.b"), "true", None))


@pytest.mark.parametrize("name", ["a.b", "a.b.c.d", "a..c", "a.b.`c"])
def test_a_table_has_three_parts(name: str) -> None:
    with pytest.raises(ReplayFailed, match="must have three parts"):
        full_name(name)
    assert full_name("a.b.c") == full_name("a.b.c_request_response") == "a.b.c_request_response"


def test_a_landing_table_of_before_takes_what_has_come_to_the_record_since(job: RunningJob, tmp_path: Path) -> None:
    before = StructType([field for field in LANDING.fields if field.name != "replay_of"])
    table = DeltaFolder(job.spark, tmp_path.joinpath(*LANDING_NAME))
    table.create(before, STATS, PROPERTIES)
    row = dict.fromkeys(LANDING.names) | {"landing_seq": 1, "kind": "record", "request_id": "old", "timestamp_ms": NOW_MS}
    table.append(job.spark.createDataFrame([tuple(row[name] for name in before.names)], before), "job", 1)

    nobody = ErasedUsers(job.spark, tmp_path, tmp_path)
    landing = Landing(job.spark, tmp_path, tmp_path / "checkpoint", nobody)
    new = row | {"request_id": "new", "replay_of": "old"}
    landing.table.append(job.spark.createDataFrame([tuple(new[name] for name in LANDING.names)], LANDING), "job", 2)
    assert landing.table.read().columns == LANDING.names
    found = {r["request_id"]: r["replay_of"] for r in landing.table.read().collect()}
    assert found == {"old": None, "new": "old"}
    version = landing.table.version()
    Landing(job.spark, tmp_path, tmp_path / "checkpoint", nobody)
    assert landing.table.version() == version
