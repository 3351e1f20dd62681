"""What the records of gateway.records ask for, against the rows of each table: missing, waiting, double, unexplained.

`records` is audit.py's frame: one row for each record that Kafka keeps. Rows and records are compared by their identity and counted;
nothing is taken from a table's own word for it, but from when on it keeps rows (retention.py): what is older is looked at on neither
side. Fails with whatever Spark raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.delta import DeltaFolder, tables_in
from jobs.landed import KIND_DEAD_LETTER, KIND_RECORD, TableName
from jobs.landing import NAME as LANDING
from jobs.landing import app_id_of
from jobs.retention import kept_from_ms
from jobs.rollup import frozen_before_ms, hourly
from pipeline.topics import DAY_MS

REQUESTS, ASSESSMENTS = "_request_response", "_assessment"
SYSTEM = "system"
# Of each kind of finding, for people to look up.
SHOWN = 5


@dataclass
class TableAudit:
    """One table. `wanted`: rows that the records ask for; `waiting`: landed, and not in this table yet; `unexplained`: without a record."""

    name: str
    wanted: int = 0
    rows: int = 0
    missing: int = 0
    waiting: int = 0
    double: int = 0
    unexplained: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether something is not as it should be."""
        return bool(self.missing or self.double or self.unexplained)


def audit_tables(
    spark: SparkSession, warehouse: Path, records: DataFrame, landing: DeltaFolder, explained_since_ms: int | None
) -> Iterator[TableAudit]:
    """The inference tables that exist or are asked for, then endpoint_usage."""
    counting = records.where((F.col("kind") == KIND_RECORD) & ~F.col("is_copy"))
    parts = [F.col("inference_table")[part] for part in ("catalog_name", "schema_name", "table_name_prefix")]
    asked = counting.where(F.col("inference_table").isNotNull()).select(*[p.alias(str(i)) for i, p in enumerate(parts)]).distinct()
    names: set[TableName] = {(row[0], row[1], row[2]) for row in asked.collect()}
    names |= {(catalog, schema, table.removesuffix(REQUESTS)) for catalog, schema, table in tables_in(warehouse, REQUESTS)}
    compare = _Comparison(spark, warehouse, landing, explained_since_ms)
    for name in sorted(names):
        of_table = counting.where(_same(parts, name))
        yield compare.table((*name[:2], name[2] + REQUESTS), of_table, F.lit(""))
        found = of_table.withColumn("finding", F.explode("assessed"))
        there = F.concat_ws("|", "assessment_type", "direction")
        yield compare.table((*name[:2], name[2] + ASSESSMENTS), found, there)
    usage = counting.where("usage_tracking")
    yield compare.table((SYSTEM, "serving", "endpoint_usage"), usage, F.lit(""), "databricks_request_id", F.unix_millis("request_time"))


def audit_letters(warehouse: Path, spark: SparkSession, records: DataFrame) -> TableAudit:
    """The dead letters of gateway.records, by their places in Kafka."""
    found = TableAudit("system.serving.dead_letters")
    place = ["topic", "partition", "offset"]
    table = DeltaFolder(spark, warehouse.joinpath(*found.name.split(".")))
    empty = "topic string, partition int, offset long, timestamp_ms long"
    there = table.read() if table.exists() else spark.createDataFrame([], empty)
    # Asked after the rows: what they miss has been said by then.
    kept = F.col("timestamp_ms") >= kept_from_ms(table)
    there = there.where(kept).select(*place)
    wanted = records.where((F.col("kind") == KIND_DEAD_LETTER) & F.col("is_read") & kept)
    wanted = wanted.select(*[F.col(f"source_{name}").alias(name) for name in place])
    found.wanted, found.rows = wanted.count(), there.count()
    found.missing = wanted.join(there, place, "left_anti").count()
    found.double = found.rows - there.distinct().count()
    return found


def audit_hours(warehouse: Path, spark: SparkSession) -> int:
    """How many rows of usage_hourly are not those of a recount of endpoint_usage; hours still to be counted, or frozen, are left out."""
    usage, hours = (DeltaFolder(spark, warehouse / SYSTEM / "serving" / name) for name in ("endpoint_usage", "usage_hourly"))
    landing = DeltaFolder(spark, warehouse.joinpath(*LANDING))
    if not (usage.exists() and hours.exists() and landing.exists()):
        return 0
    counted = hours.transaction(app_id_of(landing))
    frames = hourly(usage.read()), hours.read()
    kept = F.unix_millis("hour") >= frozen_before_ms(usage, hours)
    recount, table = (_comparable(rows.where(kept)) for rows in frames)
    differ = table.exceptAll(recount).union(recount.exceptAll(table))
    late = landing.read().where((F.col("kind") == KIND_RECORD) & F.col("usage_tracking") & (F.col("landing_seq") > counted))
    late = late.select(F.date_trunc("hour", F.timestamp_millis("timestamp_ms")).alias("hour")).distinct()
    cells = differ.select("hour", "endpoint_name", "served_entity_name", "requester", "tags").distinct()
    return int(cells.join(F.broadcast(late), "hour", "left_anti").count())


def _comparable(rows: DataFrame) -> DataFrame:
    return rows.withColumn("tags", F.array_sort(F.map_entries("tags")))


def _same(parts: list[Column], name: TableName) -> Column:
    return reduce(lambda a, b: a & b, [part == value for part, value in zip(parts, name, strict=True)])


class _Comparison:
    """Compares one table after the other."""

    def __init__(self, spark: SparkSession, warehouse: Path, landing: DeltaFolder, explained_since_ms: int | None) -> None:
        self._spark, self._warehouse, self._landing = spark, warehouse, landing
        self._explained_since_ms = explained_since_ms
        self._app_id = app_id_of(landing) if landing.exists() else ""

    def table(
        self,
        name: TableName,
        wanted: DataFrame,
        finding: Column,
        id_column: str = "request_id",
        ms: Column | None = None,
    ) -> TableAudit:
        """`wanted`: the records, with a `finding` each where a record has several rows. `finding`: the same of a row of the table."""
        found = TableAudit(".".join(name))
        table = DeltaFolder(self._spark, self._warehouse.joinpath(*name))
        keys = ["request_id", "finding"]
        if "finding" not in wanted.columns:
            wanted = wanted.withColumn("finding", F.lit(""))
        reached = table.transaction(self._app_id) if table.exists() else -1
        if table.exists():
            rows = table.read().select(
                F.col(id_column).alias("request_id"), finding.alias("finding"), (F.col("timestamp_ms") if ms is None else ms).alias("ms")
            )  # fmt: skip
        else:
            rows = self._spark.createDataFrame([], "request_id string, finding string, ms long")
        # Asked after the rows: what they miss has been said by then.
        since_ms = kept_from_ms(table)
        rows, read = rows.where(F.col("ms") >= since_ms), F.col("is_read") & (F.col("timestamp_ms") >= since_ms)
        asked = wanted.groupBy(*keys).agg(F.count_if(read).alias("wanted"), F.count("*").alias("known"))
        there = rows.groupBy(*keys).agg(F.count("*").alias("rows"), F.min("ms").alias("first_ms"), F.max("ms").alias("last_ms"))
        both = asked.join(there, keys, "full").fillna(0, ["wanted", "known", "rows"])
        explained_ms = self._explained_since_ms
        judged = both.select(
            "request_id", "wanted", "rows",
            F.greatest(F.col("wanted") - F.col("rows"), F.lit(0)).alias("missing"),
            # An id that Kafka no longer has may come again after a day, and then is another request.
            F.when(F.col("known") > 0, F.greatest(F.col("rows") - F.col("known"), F.lit(0)))
            .when(F.col("last_ms") - F.col("first_ms") < DAY_MS, F.col("rows") - 1)
            .otherwise(0).alias("double"),
            F.when((F.col("known") == 0) & (F.col("first_ms") >= explained_ms), F.col("rows")).otherwise(0).alias("unexplained")
            if explained_ms is not None else F.lit(0).alias("unexplained"),
        )  # fmt: skip
        sums = judged.agg(*[F.coalesce(F.sum(c), F.lit(0)) for c in ("wanted", "rows", "missing", "double", "unexplained")]).collect()[0]
        found.wanted, found.rows, found.missing, found.double, found.unexplained = (int(n) for n in sums)
        if found.missing:
            found.waiting = self._waiting(judged.where("missing > 0"), reached)
            found.missing -= found.waiting
        for kind in ("missing", "double", "unexplained"):
            if getattr(found, kind):
                found.examples[kind] = [row[0] for row in judged.where(f"{kind} > 0").select("request_id").limit(SHOWN).collect()]
        return found

    def _waiting(self, missing: DataFrame, reached: int) -> int:
        """How many of the missing rows have landed after the batch that the table had reached before it was read."""
        if not self._app_id:
            return 0
        later = (
            self._landing.read().where((F.col("kind") == KIND_RECORD) & (F.col("landing_seq") > reached)).select("request_id").distinct()
        )
        return int(missing.join(later, "request_id", "left_semi").agg(F.coalesce(F.sum("missing"), F.lit(0))).collect()[0][0])
