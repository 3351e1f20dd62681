"""The figures that alert rules are judged by, for a few hours, from the tables; only what the rules ask for is computed.

    error_rate, tokens   sums over usage_hourly
    p95_latency_ms       over the requests of the group in endpoint_usage: a percentile of the rollup's percentiles is none
    cost                 as cost_hourly would have it at the present list prices, computed here and written nowhere

Fails with whatever Spark raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.alert_breaches import Figures, Sums
from jobs.alert_rules import TAG, Rule
from jobs.costs import MONEY, hourly_costs
from jobs.delta import DeltaFolder
from jobs.prices import NAME as PRICES
from jobs.rollup import HOUR_S, HourlyUsage

SERVING = ("system", "serving")
KEYS = ("hour", "endpoint_name", "tags")


def figures_of(spark: SparkSession, warehouse: Path, rules: Iterable[Rule], first: int, last: int) -> Figures:
    """What `rules` are judged by, from epoch hour `first` to `last`, both included."""
    serving = warehouse.joinpath(*SERVING)
    hourly, usage = DeltaFolder(spark, warehouse.joinpath(*HourlyUsage.name)), DeltaFolder(spark, serving / "endpoint_usage")
    if not hourly.exists() or not usage.exists():
        return Figures()
    asked = {rule.metric for rule in rules}
    # By its own column, so that files of other hours are not read.
    recent = usage.read().where(_within(F.col("request_time"), first, last))
    sums = _sums(hourly.read().where(_within(F.col("hour"), first, last))) if asked & {"error_rate", "tokens"} else ()
    entities, prices = DeltaFolder(spark, serving / "served_entities"), DeltaFolder(spark, warehouse.joinpath(*PRICES))
    costs = _costs(recent, entities, prices) if "cost" in asked else ()
    by = sorted({rule.by for rule in rules if rule.metric == "p95_latency_ms"})
    return Figures(sums, costs, _latencies(recent, by) if by else {})


def _within(at: Column, first: int, last: int) -> Column:
    return (at >= F.timestamp_seconds(F.lit(first * HOUR_S))) & (at < F.timestamp_seconds(F.lit((last + 1) * HOUR_S)))


def _sums(hourly: DataFrame) -> tuple[Sums, ...]:
    tokens = F.sum(F.col("input_tokens") + F.col("output_tokens")).alias("tokens")
    rows = hourly.groupBy(*KEYS).agg(F.sum("requests").alias("requests"), F.sum("errors").alias("errors"), tokens)
    return tuple(
        Sums(row.epoch // HOUR_S, row.endpoint_name, row.tags or {}, row.requests, errors=row.errors, tokens=row.tokens)
        for row in rows.withColumn("epoch", F.unix_seconds("hour")).collect()
    )


def _costs(recent: DataFrame, entities: DeltaFolder, prices: DeltaFolder) -> tuple[Sums, ...]:
    if not entities.exists() or not prices.exists():
        return ()
    priced = hourly_costs(recent, entities.read(), prices.read())
    # What has no price is in no sum, here as in `sluice cost`.
    rows = priced.groupBy(*KEYS).agg(F.sum("requests").alias("requests"), F.coalesce(F.sum("cost"), F.lit(0)).cast(MONEY).alias("cost"))
    return tuple(
        Sums(row.epoch // HOUR_S, row.endpoint_name, row.tags or {}, row.requests, cost=row.cost)
        for row in rows.withColumn("epoch", F.unix_seconds("hour")).collect()
    )


def _latencies(recent: DataFrame, by: list[str]) -> dict[tuple[str, str, int], tuple[int, Decimal]]:
    def group_of(name: str) -> Column:
        return F.col("tags")[name.removeprefix(TAG)] if name.startswith(TAG) else F.col("endpoint_name")

    groups = [F.struct(F.lit(name).alias("by"), group_of(name).alias("value")) for name in by]
    hour = F.floor(F.unix_seconds("request_time") / HOUR_S).cast("long")
    rows = recent.select(hour.alias("hour"), F.explode(F.array(*groups)).alias("group"), "execution_time_ms")
    found = rows.where(F.col("group.value").isNotNull()).groupBy("group", "hour").agg(
        F.count("*").alias("requests"), F.percentile("execution_time_ms", F.lit(0.95)).alias("p95")
    )  # fmt: skip
    return {
        (row.group.by, row.group.value, row.hour): (row.requests, Decimal(repr(row.p95))) for row in found.collect() if row.p95 is not None
    }
