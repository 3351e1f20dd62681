"""`system.serving.cost_hourly`: what each hour of `endpoint_usage` cost, by endpoint, served entity, model, requester and tags.

A request costs its tokens at the price of its model at its time (prices.py); the model is that of its served entity then. Sums are
exact (Decimal). An hour is priced when its usage is new or has changed, and keeps its price until it is priced again on purpose
(`reprice`), so that a corrected price changes no reported figure without showing by how much. What has no price costs NULL and
is counted. Hours whose usage retention has deleted are frozen. One writer at a time: a second one fails with Delta's conflict.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, LongType, MapType, StringType, StructField, StructType, TimestampType

from jobs.delta import DeltaFolder
from jobs.name_lock import copying_names
from jobs.prices import list_prices
from jobs.rollup import HOUR_S, MAX_LISTED_HOURS, frozen_before_ms, hours_sql, times_sql
from jobs.targets import PROPERTIES

NAME = ("system", "serving", "cost_hourly")
MONEY = DecimalType(38, 12)
COST_HOURLY = StructType(
    [
        StructField("hour", TimestampType()),
        *[StructField(name, StringType()) for name in ("endpoint_name", "served_entity_name", "model", "requester")],
        StructField("tags", MapType(StringType(), StringType())),
        *[StructField(name, LongType()) for name in ("requests", "input_tokens", "output_tokens", "unpriced_requests")],
        *[StructField(name, MONEY) for name in ("input_cost", "output_cost", "cost")],
    ]
)


@dataclass(frozen=True)
class Difference:
    """What pricing again changed for one model, over the period."""

    model: str | None
    before: Decimal
    after: Decimal


class Costs:
    """The table and what it is made from."""

    def __init__(self, spark: SparkSession, warehouse: Path) -> None:
        serving = warehouse / "system" / "serving"
        self._warehouse = warehouse
        self._usage, self._entities = (DeltaFolder(spark, serving / name) for name in ("endpoint_usage", "served_entities"))
        self._prices = list_prices(spark, warehouse)
        self.table = DeltaFolder(spark, warehouse.joinpath(*NAME))
        self.table.create(COST_HOURLY, ("hour", "endpoint_name", "model"), PROPERTIES)

    @property
    def frozen_before(self) -> datetime:
        """Hours of before keep their costs: there is no usage any more to price."""
        return datetime.fromtimestamp(frozen_before_ms(self._usage, self.table) / 1000, UTC)

    def refresh(self) -> int:
        """Price the hours whose usage is new or has changed; returns how many these are."""
        if not self._usage.exists():
            return 0
        with copying_names(self._warehouse):
            return self._refresh()

    def _refresh(self) -> int:
        used, priced = _totals(self._usage.read().where(F.col("request_time") >= F.lit(self.frozen_before))), self._priced()
        both = used.join(priced, "hour", "left")
        changed = F.lit(False)
        for name in ("requests", "input_tokens", "output_tokens"):
            changed = changed | ~F.col(name).eqNullSafe(F.col(f"priced_{name}"))
        hours = {int(row.epoch) for row in both.where(changed).select(F.unix_seconds("hour").alias("epoch")).collect()}
        self._price({epoch // HOUR_S for epoch in hours})
        return len(hours)

    def reprice(self, since: datetime, until: datetime) -> list[Difference]:
        """Price all hours from `since` to before `until` at today's list prices; what that changed, by model."""
        self.refresh()
        period = self.table.read().where((F.col("hour") >= F.lit(since)) & (F.col("hour") < F.lit(until)))
        open_hours = period.where(F.col("hour") >= F.lit(self.frozen_before))
        hours = {int(row.epoch) // HOUR_S for row in open_hours.select(F.unix_seconds("hour").alias("epoch")).distinct().collect()}
        before = _by_model(period)
        with copying_names(self._warehouse):
            self._price(hours)
        after = _by_model(self.table.read().where((F.col("hour") >= F.lit(since)) & (F.col("hour") < F.lit(until))))
        none = Decimal(0)
        models = sorted({*before, *after}, key=str)
        return [Difference(model, before.get(model, none), after.get(model, none)) for model in models]

    def _priced(self) -> DataFrame:
        names = ("requests", "input_tokens", "output_tokens")
        return self.table.read().groupBy("hour").agg(*[F.sum(name).alias(f"priced_{name}") for name in names])

    def _price(self, hours: set[int]) -> None:
        ordered = sorted(hours)
        for start in range(0, len(ordered), MAX_LISTED_HOURS):
            some = set(ordered[start : start + MAX_LISTED_HOURS])
            where = hours_sql(some)
            # As in rollup.counted.
            usage = self._usage.read().where(times_sql(some))
            self.table.replace(hourly_costs(usage, self._entities.read(), self._prices.read()).where(where), where)


def hourly_costs(usage: DataFrame, entities: DataFrame, prices: DataFrame) -> DataFrame:
    """The rows of cost_hourly for `usage`, with the models of `served_entities` and the prices of `list_prices`."""
    # An entity's first state stands for all time before it, since the clocks of who wrote the two differ a little.
    states = _intervals(entities, "served_entity_id", "change_time").select(
        "served_entity_id", F.col("entity_name").alias("model"), F.when(F.col("number") > 1, F.col("change_time")).alias("from"), "until"
    )
    at = F.col("request_time")
    calls = usage.alias("u").join(
        F.broadcast(states.alias("s")),
        (F.col("u.served_entity_id") == F.col("s.served_entity_id")) & _within(at, F.col("s.from"), F.col("s.until")), "left",
    ).select("u.*", "s.model")  # fmt: skip
    listed = _intervals(prices, "model", "valid_from").withColumnRenamed("model", "priced_model")
    calls = calls.join(
        F.broadcast(listed), (F.col("model") == F.col("priced_model")) & _within(at, F.col("valid_from"), F.col("until")), "left"
    )
    used = (F.col("input_token_count") > 0) | (F.col("output_token_count") > 0)
    grouped = calls.groupBy(
        F.date_trunc("hour", "request_time").alias("hour"), "endpoint_name", "served_entity_name", "model", "requester", "tags"
    ).agg(
        F.count("*").alias("requests"),
        F.sum("input_token_count").alias("input_tokens"),
        F.sum("output_token_count").alias("output_tokens"),
        F.count_if(used & F.col("priced_model").isNull()).alias("unpriced_requests"),
        _sum_of("input"),
        _sum_of("output"),
    )
    return grouped.withColumn("cost", F.col("input_cost") + F.col("output_cost")).select(
        *[F.col(f.name).cast(f.dataType) for f in COST_HOURLY.fields]
    )


def _sum_of(side: str) -> Column:
    tokens, price = F.col(f"{side}_token_count"), F.col(f"{side}_token_price")
    # No tokens cost nothing whatever the price; where some cost what nobody knows, the sum is not known either.
    cost = F.when(tokens == 0, F.lit(0).cast(MONEY)).otherwise((tokens.cast(DecimalType(18, 0)) * price).cast(MONEY))
    known = F.sum(cost).cast(MONEY)
    return F.when(F.count_if(cost.isNull()) == 0, known).alias(f"{side}_cost")


def _intervals(rows: DataFrame, key: str, since: str) -> DataFrame:
    """`rows` with `until`, when the next row of the same key begins, and `number`, which of them it is."""
    in_order = Window.partitionBy(key).orderBy(since)
    return rows.withColumns({"until": F.lead(since).over(in_order), "number": F.row_number().over(in_order)})


def _within(at: Column, since: Column, until: Column) -> Column:
    return (since.isNull() | (at >= since)) & (until.isNull() | (at < until))


def _totals(usage: DataFrame) -> DataFrame:
    return usage.groupBy(F.date_trunc("hour", "request_time").alias("hour")).agg(
        F.count("*").alias("requests"),
        F.sum("input_token_count").alias("input_tokens"),
        F.sum("output_token_count").alias("output_tokens"),
    )


def _by_model(rows: DataFrame) -> dict[str | None, Decimal]:
    return {
        row.model: row.cost for row in rows.groupBy("model").agg(F.coalesce(F.sum("cost"), F.lit(0)).cast(MONEY).alias("cost")).collect()
    }
