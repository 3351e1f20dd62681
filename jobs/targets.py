"""The tables that are filled from the landing table: where each lies, which landed rows it wants, and as which columns.

A target writes what lies between the batch it has reached and a newer one, in one commit which remembers how far it came, and leaves
out what the table holds already (a new checkpoint reads everything again) and what is older than the table keeps (retention.py).
Fails with whatever Spark raises; the table job then lets the target lag and tries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.delta import DeltaFolder
from jobs.landed import KIND_DEAD_LETTER, KIND_RECORD, Span, TableName
from jobs.landing import LAST_MS
from jobs.progress import Progress
from jobs.retention import kept_from_ms
from jobs.schemas import ASSESSMENT, DEAD_LETTERS, ENDPOINT_USAGE, REQUEST_RESPONSE
from pipeline.topics import DAY_MS, HOUR_MS

# A day of history (time travel): the log has a file for every commit, and a busy table gets twenty thousand a day.
PROPERTIES = {
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 days",
    "delta.checkpointInterval": "20",
}
Name = tuple[str, str, str]


@dataclass(frozen=True)
class Shape:
    """What one kind of table holds. `id_columns`: a row's identity; `time`: the column that bounds
    the search for it, how milliseconds are written as its value, and how its value is read as milliseconds."""

    schema: StructType
    stats: tuple[str, ...]
    wanted: Column
    project: Callable[[DataFrame], DataFrame]
    id_columns: tuple[str, ...]
    time: tuple[str, Callable[[int], Column], Callable[[str], Column]] | None


class Target:
    """One table. `app_id`: the landing table whose batches these are, made at `since_ms`."""

    def __init__(self, spark: SparkSession, warehouse: Path, name: Name, shape: Shape, app_id: str, since_ms: int) -> None:
        self.name, self.shape, self._app_id, self._since_ms = name, shape, app_id, since_ms
        self.table = DeltaFolder(spark, warehouse.joinpath(*name))
        self.progress = Progress(self.table, app_id)
        self._only_ours: bool | None = None
        # Asked of the table once; who deletes rows (upkeep.py) lets it be asked again.
        self.kept_from_ms: int | None = None

    @property
    def label(self) -> str:
        """The three-part name."""
        return ".".join(self.name)

    def ensure(self) -> None:
        """Make the table, empty, where it is not there."""
        self.table.create(self.shape.schema, self.shape.stats, PROPERTIES)

    def write(self, landing: DataFrame, after: int, high: int, span: Span | None) -> None:
        """Add the rows that landed after batch `after` up to `high`, which lie within `span` (None: there are none)."""
        self.ensure()
        if span is None:
            return
        after = max(after, self.progress.before_write())
        if after < high:
            landed = landing.where((F.col("landing_seq") > after) & (F.col("landing_seq") <= high) & self.shape.wanted)
            if self.kept_from_ms is None:
                self.kept_from_ms = kept_from_ms(self.table)
            if span.min_ms < self.kept_from_ms:
                landed = landed.where(F.col("timestamp_ms") >= self.kept_from_ms)
            rows = self.shape.project(landed)
            new = rows if self._is_new(span) else self._missing(rows, span)
            self.table.append(new.coalesce(landing.sparkSession.sparkContext.defaultParallelism), self._app_id, high)
        self.progress.done(high)

    def _is_new(self, span: Span) -> bool:
        """Whether the landing table has seen all that this table could hold of these rows: it drops copies within 24 hours.

        So it is where this table has only ever been filled from it, as far as it says itself, and the records are of today. Looking
        into the table costs as much as writing to it.
        """
        if self.progress.reached < 0 or self.shape.time is None:
            return False
        if self._only_ours is None:
            self._only_ours = self.table.created_ms() >= self._since_ms
        return self._only_ours and span.appended_ms > time.time() * 1000 - DAY_MS + HOUR_MS

    def _missing(self, rows: DataFrame, span: Span) -> DataFrame:
        """The rows that the table does not hold: none of the same identity, with a time less than a day away where there is a time."""
        ids = list(self.shape.id_columns)
        present = self.table.read()
        if self.shape.time is None:
            return rows.join(F.broadcast(present.select(*ids)), ids, "left_anti")
        name, at, ms = self.shape.time
        # Copies of a request were dropped before they landed. Only where old records come again, from a new checkpoint, can the copy
        # that counts be known to this table alone; then the search is a day wider than the rows.
        wider = DAY_MS if span.min_ms < time.time() * 1000 - HOUR_MS else 0
        low, high = max(span.min_ms - wider, 0), min(span.max_ms + wider, LAST_MS - 1)
        present = present.where((F.col(name) >= at(low)) & (F.col(name) <= at(high)))
        present = present.select(*[F.col(c).alias(f"_{c}") for c in ids], ms(name).alias("_ms")).distinct()
        same = F.abs(ms(name) - F.col("_ms")) < DAY_MS
        for column in ids:
            same = same & (F.col(column) == F.col(f"_{column}"))
        return rows.join(F.broadcast(present), same, "left_anti")


def _as_timestamp(ms: int) -> Column:
    return F.timestamp_millis(F.lit(ms))


def _date() -> Column:
    return F.to_date(F.timestamp_millis("timestamp_ms"))


def _selection(schema: StructType, **computed: Column) -> Callable[[DataFrame], DataFrame]:
    """Rows as the columns of `schema`. The columns are made once: in every batch they would take as long as reading the rows."""
    columns = [computed.get(f.name, F.col(f.name)).cast(f.dataType).alias(f.name) for f in schema.fields]
    return lambda rows: rows.select(*columns)


def _usage() -> Callable[[DataFrame], DataFrame]:
    return _selection(
        ENDPOINT_USAGE, workspace_id=F.lit(None), account_id=F.lit(None), databricks_request_id=F.col("request_id"),
        request_time=F.timestamp_millis("timestamp_ms"), input_token_count=F.col("input_tokens"), output_token_count=F.col("output_tokens"),
        input_character_count=F.col("input_characters"), output_character_count=F.col("output_characters"),
        request_streaming=F.col("streaming"),
    )  # fmt: skip


def _assessments() -> Callable[[DataFrame], DataFrame]:
    own = {name: F.col(f"found.{name}") for name in ("assessment_type", "assessment_result", "assessment_details", "direction")}
    selected = _selection(ASSESSMENT, assessment_date=_date(), **own)
    return lambda rows: selected(rows.withColumn("found", F.explode("assessments")))


def _dead_letters() -> Callable[[DataFrame], DataFrame]:
    selected = _selection(DEAD_LETTERS, **{name: F.col(f"source_{name}") for name in ("topic", "partition", "offset")})
    return lambda rows: selected(rows).dropDuplicates(["topic", "partition", "offset"])


def _of_table(table: TableName) -> Column:
    catalog, schema, prefix = table
    t = F.col("inference_table")
    return (
        (F.col("kind") == KIND_RECORD) & (t["catalog_name"] == catalog) & (t["schema_name"] == schema) & (t["table_name_prefix"] == prefix)
    )  # fmt: skip


def request_response_shape(table: TableName) -> Shape:
    """`{prefix}_request_response` of the endpoints that are configured with this catalog, schema and prefix."""
    return Shape(
        REQUEST_RESPONSE, ("request_id", "timestamp_ms", "status_code", "request_date", "endpoint_name"), _of_table(table),
        _selection(REQUEST_RESPONSE, request_date=_date()), ("request_id",), ("timestamp_ms", F.lit, F.col),
    )  # fmt: skip


def assessment_shape(table: TableName) -> Shape:
    """`{prefix}_assessment`: one row for each finding."""
    return Shape(
        ASSESSMENT, ("request_id", "timestamp_ms", "assessment_type", "assessment_result", "assessment_date"),
        _of_table(table) & (F.size("assessments") > 0), _assessments(), ("request_id",), ("timestamp_ms", F.lit, F.col),
    )  # fmt: skip


def usage_shape() -> Shape:
    """`system.serving.endpoint_usage`: one narrow row for each request of an endpoint with usage tracking."""
    return Shape(
        ENDPOINT_USAGE, ("databricks_request_id", "request_time", "status_code", "endpoint_name"),
        (F.col("kind") == KIND_RECORD) & F.col("usage_tracking"), _usage(), ("databricks_request_id",),
        ("request_time", _as_timestamp, F.unix_millis),
    )  # fmt: skip


def dead_letters_shape() -> Shape:
    """`system.serving.dead_letters`: what could not be read, once for each place in Kafka."""
    return Shape(
        DEAD_LETTERS, ("topic", "partition", "offset", "timestamp_ms"), F.col("kind") == KIND_DEAD_LETTER, _dead_letters(),
        ("topic", "partition", "offset"), None,
    )  # fmt: skip
