"""`system.serving.replays`: what came of each request that `sluice replay` sent through another endpoint, beside what came of it at first.

    rows = logged(spark, warehouse, "main.llm.demo", "status_code = 200", limit=None)      what is to be replayed
    pairs = keep(spark, warehouse, plan, originals and results)                            one commit, however often it is called

No text is kept here. Both sides are priced at the list prices in force when the replay is kept: a price that has changed meanwhile is no
difference between two endpoints; what has no price costs NULL. Fails with ReplayFailed where the table or the condition is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from jobs.costs import MONEY
from jobs.delta import DeltaFolder, reason
from jobs.prices import NAME as PRICES
from jobs.targets import PROPERTIES
from pipeline.replay.folder import Plan, ReplayFailed
from pipeline.replay.records import Original, Result

NAME = ("system", "serving", "replays")
SUFFIX = "_request_response"
_COLUMNS = (
    "request_id", "timestamp_ms", "endpoint_name", "served_entity_name", "served_model_name", "request", "response", "status_code",
    "execution_time_ms", "input_tokens", "output_tokens", "guardrails",
)  # fmt: skip


def _both(name: str, kind: Any) -> list[StructField]:
    return [StructField(f"original_{name}", kind), StructField(name, kind)]


REPLAYS = StructType(
    [
        StructField("replay_id", StringType(), nullable=False),
        StructField("replay_of", StringType(), nullable=False),
        StructField("request_id", StringType()),
        StructField("replayed_at", TimestampType()),
        StructField("original_timestamp_ms", LongType()),
        StructField("source_table", StringType()),
        *_both("endpoint_name", StringType()),
        *_both("model", StringType()),
        *_both("status_code", IntegerType()),
        StructField("error_code", StringType()),
        *_both("execution_time_ms", LongType()),
        *_both("input_tokens", LongType()),
        *_both("output_tokens", LongType()),
        *_both("cost", MONEY),
        *_both("guardrails", ArrayType(StringType())),
        StructField("similarity", DoubleType()),
        StructField("original_masked", BooleanType()),
    ]
)
Prices = dict[str, tuple[Decimal, Decimal]]


def full_name(table: str) -> str:
    """`table` (CATALOG.SCHEMA.PREFIX, or the whole name) as the name of the inference table. Raises ReplayFailed."""
    if table.count(".") != 2 or not all(table.split(".")) or "`" in table:
        raise ReplayFailed(f"--from '{table}' must have three parts: CATALOG.SCHEMA.PREFIX, or CATALOG.SCHEMA.PREFIX{SUFFIX}")
    return table if table.endswith(SUFFIX) else table + SUFFIX


def logged(spark: SparkSession, warehouse: Path, table: str, where: str, limit: int | None) -> Iterator[dict[str, Any]]:
    """The rows of the inference table `table` (its whole name) for which `where` (Spark SQL) holds, the oldest first, with their model."""
    models = _models(spark, warehouse)
    try:
        rows = spark.table(".".join(f"`{part}`" for part in table.split("."))).where(where).select(*_COLUMNS)
        rows = rows.orderBy("timestamp_ms", "request_id")
        for row in (rows if limit is None else rows.limit(limit)).toLocalIterator():
            found = row.asDict(recursive=True)
            yield {**found, "model": models.get((row["endpoint_name"], row["served_entity_name"]), row["served_model_name"])}
    except PySparkException as exc:
        raise ReplayFailed(f"the rows of {table} where {where} can't be read: {reason(exc)}") from None


def keep(
    spark: SparkSession, warehouse: Path, plan: Plan, originals: Iterable[Original], results: dict[int, Result], models: dict[str, str]
) -> list[dict[str, Any]]:
    """Add the replay's rows in one commit and return them; of a replay that is kept already, those that are there.

    `models`: the model of each of the endpoint's served entities.
    """
    table = DeltaFolder(spark, warehouse.joinpath(*NAME))
    table.create(REPLAYS, ("replay_id", "replay_of", "replayed_at"), PROPERTIES)
    app_id = f"replay-{plan.replay_id}"
    if table.transaction(app_id) >= 0:
        kept = table.read().where(F.col("replay_id") == plan.replay_id).orderBy("original_timestamp_ms", "replay_of")
        return [row.asDict(recursive=True) for row in kept.collect()]
    prices = _prices(spark, warehouse)
    rows = [_row(plan, original, results[original.place], models, prices) for original in originals]
    table.append(spark.createDataFrame(rows, REPLAYS).coalesce(1), app_id, 0)
    return [dict(zip(REPLAYS.names, row, strict=True)) for row in rows]


def _row(plan: Plan, original: Original, result: Result, models: dict[str, str], prices: Prices) -> tuple[Any, ...]:
    model = models.get(result.served_entity or "")
    return (
        plan.replay_id, original.request_id, result.request_id, datetime.fromtimestamp(result.replayed_ms / 1000, UTC),
        original.timestamp_ms, plan.table, original.endpoint_name, plan.endpoint, original.model, model,
        original.status_code, result.status_code, result.error_code, original.execution_time_ms, result.execution_time_ms,
        original.input_tokens, result.input_tokens, original.output_tokens, result.output_tokens,
        _cost(prices, original.model, original.input_tokens, original.output_tokens),
        _cost(prices, model, result.input_tokens, result.output_tokens),
        original.guardrails, result.guardrails, result.similarity, original.masked,
    )  # fmt: skip


def _cost(prices: Prices, model: str | None, input_tokens: int, output_tokens: int) -> Decimal | None:
    if not input_tokens and not output_tokens:
        return Decimal(0)
    price = prices.get(model or "")
    return None if price is None else input_tokens * price[0] + output_tokens * price[1]


def _prices(spark: SparkSession, warehouse: Path) -> Prices:
    """What an input and an output token of each model cost now."""
    table = DeltaFolder(spark, warehouse.joinpath(*PRICES))
    if not table.exists():
        return {}
    # In Python: sorting a handful of rows there costs a cold Spark seconds.
    rows = table.read().where(F.col("valid_from") <= F.current_timestamp()).collect()
    return {row.model: (row.input_token_price, row.output_token_price) for row in sorted(rows, key=lambda row: row.valid_from)}


def _models(spark: SparkSession, warehouse: Path) -> dict[tuple[str, str], str]:
    """The model of each served entity that the table job has written down, by endpoint and entity."""
    table = DeltaFolder(spark, warehouse / "system" / "serving" / "served_entities")
    if not table.exists():
        return {}
    rows = table.read().select("endpoint_name", "served_entity_name", "entity_name", "change_time").collect()
    return {(row.endpoint_name, row.served_entity_name): row.entity_name for row in sorted(rows, key=lambda row: row.change_time)}
