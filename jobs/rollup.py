"""`system.serving.usage_hourly`: the hours that new rows touched, aggregated anew from `endpoint_usage` and put in place of the old ones.

Nothing is ever added up in place, so the table always equals a recount, whatever was repeated or came late. But for hours whose rows
retention has deleted from either table: they are frozen. Fails as a target does.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.delta import DeltaFolder
from jobs.landed import Span
from jobs.progress import Progress
from jobs.retention import kept_from_ms
from jobs.schemas import USAGE_HOURLY
from jobs.targets import PROPERTIES, Name, Target
from pipeline.topics import HOUR_MS

HOUR_S = 3_600
# Beyond this many hours one range is cheaper to say than their list.
MAX_LISTED_HOURS = 200


class HourlyUsage:
    """The rollup as a target of its own; `usage` is the table it is made from."""

    name: Name = ("system", "serving", "usage_hourly")

    def __init__(self, spark: SparkSession, usage: Target, app_id: str) -> None:
        self._usage, self._app_id = usage, app_id
        self.table = DeltaFolder(spark, usage.table.path.parent / self.name[2])
        self.progress = Progress(self.table, app_id)
        # As a target's; of both tables the later.
        self.kept_from_ms: int | None = None

    @property
    def label(self) -> str:
        """The three-part name."""
        return ".".join(self.name)

    def ensure(self) -> None:
        """Make the table, empty, where it is not there."""
        self.table.create(USAGE_HOURLY, ("hour", "endpoint_name", "served_entity_name"), PROPERTIES)

    def write(self, landing: DataFrame, after: int, high: int, span: Span | None) -> None:
        """Count the span's hours anew. `high`: the batch that `endpoint_usage` has reached."""
        self.ensure()
        if span is None:
            return
        self.progress.before_write()
        if self.kept_from_ms is None:
            self.kept_from_ms = frozen_before_ms(self._usage.table, self.table)
        hours = {hour for hour in span.hours if hour * HOUR_MS >= self.kept_from_ms}
        if hours:
            rows, where = counted(self._usage.table, hours)
            self.table.replace(rows, where, (self._app_id, high))
        self.progress.done(high)


def frozen_before_ms(usage: DeltaFolder, hours: DeltaFolder) -> int:
    """Hours of before can't be counted anew: retention has deleted what they are made of, or them (epoch milliseconds)."""
    return max(kept_from_ms(usage), kept_from_ms(hours))


def recount(usage: DeltaFolder, table: DeltaFolder, hours: set[int]) -> None:
    """Count these epoch hours anew, outside the batches that `write` counts for."""
    if hours:
        rows, where = counted(usage, hours)
        table.replace(rows, where)


def counted(usage: DeltaFolder, hours: set[int]) -> tuple[DataFrame, str]:
    """The rollup's rows of these epoch hours, and in whose place they come."""
    where = hours_sql(hours)
    # Both: by times Delta leaves out the files of other hours, which it can't by what is computed from times.
    return hourly(usage.read().where(times_sql(hours))).where(where), where


def hourly(usage: DataFrame) -> DataFrame:
    """`endpoint_usage` as one row for each hour, endpoint, served entity, requester and tags."""
    failed, times = F.col("status_code") >= 400, F.col("execution_time_ms")
    grouped = usage.groupBy(
        F.date_trunc("hour", "request_time").alias("hour"), "endpoint_name", "served_entity_name", "requester", "tags"
    ).agg(
        F.count("*").alias("requests"),
        F.sum("input_token_count").alias("input_tokens"),
        F.sum("output_token_count").alias("output_tokens"),
        F.avg(times).alias("avg_latency_ms"),
        F.percentile(times, F.lit(0.95)).alias("p95_latency_ms"),
        F.count_if(failed).alias("errors"),
        F.count_if(F.col("status_code") == 429).alias("rate_limited"),
        F.count_if(F.col("finish") == "blocked").alias("blocked"),
    )  # fmt: skip
    return grouped.select(*[F.col(f.name).cast(f.dataType) for f in USAGE_HOURLY.fields])


def hours_sql(hours: set[int]) -> str:
    """Which rows lie in these epoch hours, as SQL; all between the first and the last where they are more than MAX_LISTED_HOURS."""
    if len(hours) > MAX_LISTED_HOURS:
        return f"hour >= {_literal(min(hours))} AND hour <= {_literal(max(hours))}"
    return f"hour IN ({', '.join(_literal(h) for h in sorted(hours))})"


def times_sql(hours: set[int]) -> str:
    """The same of rows of `endpoint_usage`."""
    listed = sorted(hours)
    ranges = [(listed[0], listed[-1])] if len(listed) > MAX_LISTED_HOURS else [(hour, hour) for hour in listed]
    return " OR ".join(f"(request_time >= {_literal(low)} AND request_time < {_literal(high + 1)})" for low, high in ranges)


def _literal(hour: int) -> str:
    return f"TIMESTAMP '{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%d %H:%M:%S}'"
