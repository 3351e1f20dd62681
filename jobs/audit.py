"""`sluice audit`: every offset of gateway.records against the rows of every table, with numbers.

    positions   how far the table job has read each partition, by its checkpoint; what lies beyond is `behind` and not looked at
    gaps        offsets that neither the topic nor the landing table holds: records that were gone before they were read
    tables      what the records ask for, against what is there: missing, double, and rows that no record explains (audit_tables.py)

Reads only, beside a running job: a row that has landed and is not spread yet counts as `waiting`. What Kafka no longer keeps can't be
compared; doubles are found there too. Fails with AuditFailed where Kafka or the checkpoint can't be read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.audit_tables import TableAudit, audit_hours, audit_letters, audit_tables
from jobs.delta import DeltaFolder
from jobs.landed import KIND_DEAD_LETTER, KIND_RECORD, copies_among
from jobs.landing import NAME as LANDING
from jobs.landing import judged
from pipeline.errors import SluiceError
from pipeline.kafka.connection import client_options, spark_options
from pipeline.settings import Settings
from pipeline.topics import COUNTED_PARTITIONS, DAY_MS, RECORDS


class AuditFailed(SluiceError):
    """The audit could not be made; the message says what could not be read."""


@dataclass(frozen=True)
class Position:
    """One partition of gateway.records: its first offset in Kafka, the next one to be written, and the next one the job reads."""

    first: int
    end: int
    reached: int


@dataclass
class Audit:
    """The findings. `read`: records the job has read and Kafka still keeps; `gaps`: partition -> offsets that nobody has."""

    positions: dict[int, Position]
    read: int = 0
    copies: int = 0
    dead_letters: int = 0
    gaps: dict[int, int] = field(default_factory=dict)
    tables: list[TableAudit] = field(default_factory=list)
    wrong_hours: int = 0

    @property
    def behind(self) -> int:
        """Records that the job has not read yet."""
        return sum(place.end - max(place.reached, place.first) for place in self.positions.values())

    @property
    def complete(self) -> bool:
        """Whether every record that was read is in its tables, once, and the hours equal a recount."""
        return not (self.dead_letters or self.gaps or self.wrong_hours or any(table.wrong for table in self.tables))


def audit(settings: Settings, spark: SparkSession, say: Callable[[str], None] = lambda _: None) -> Audit:
    """Look at everything; `say` is told what is looked at. Raises AuditFailed."""
    say(RECORDS.name)
    found = Audit(_positions(settings))
    # From Kafka once: each further look would read and parse it all again.
    read = _read(settings, spark, found.positions).persist(StorageLevel.DISK_ONLY)
    records = _with_copies(spark, read).persist(StorageLevel.DISK_ONLY)
    try:
        landing = DeltaFolder(spark, settings.warehouse_dir.joinpath(*LANDING))
        counts = records.where("is_read").agg(
            F.count("*"), F.count_if("is_copy"), F.count_if(F.col("kind") == KIND_DEAD_LETTER)
        ).collect()[0]  # fmt: skip
        found.read, found.copies, found.dead_letters = (int(n) for n in counts)
        found.gaps = _gaps(spark, records, landing, found.positions)
        for table in audit_tables(spark, settings.warehouse_dir, records, landing, _explained_since_ms(records, found.positions)):
            say(table.name)
            found.tables.append(table)
        found.tables.append(audit_letters(settings.warehouse_dir, spark, records))
        found.wrong_hours = audit_hours(settings.warehouse_dir, spark)
    finally:
        records.unpersist()
        read.unpersist()
    return found


def _positions(settings: Settings) -> dict[int, Position]:
    reached = _reached(settings.data.resolve() / "checkpoints" / "tables")
    try:
        first, end = asyncio.run(_ends(settings))
    except KafkaError as exc:
        raise AuditFailed(f"the offsets of {RECORDS.name} can't be read from Kafka at {settings.kafka}: {exc!r}") from None
    return {p: Position(first[p], end[p], min(reached.get(p, 0), end[p])) for p in range(COUNTED_PARTITIONS)}


async def _ends(settings: Settings) -> tuple[dict[int, int], dict[int, int]]:
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None)
    await consumer.start()
    try:
        places = [TopicPartition(RECORDS.name, p) for p in range(COUNTED_PARTITIONS)]
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return {place.partition: first[place] for place in places}, {place.partition: end[place] for place in places}
    finally:
        await consumer.stop()


def _reached(checkpoint: Path) -> dict[int, int]:
    """The offsets up to which batches are done, by Spark's own log of them; none where the job never ran."""
    done = {int(file.name) for file in (checkpoint / "commits").glob("*") if file.name.isdigit()}
    if not done:
        return {}
    file = checkpoint / "offsets" / str(max(done))
    try:
        # A version, the batch's settings, then a line for each source: there is one.
        offsets = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])[RECORDS.name]
        return {int(partition): int(offset) for partition, offset in offsets.items()}
    except (OSError, ValueError, KeyError, AttributeError) as exc:
        raise AuditFailed(f"the table job's checkpoint {file} can't be read: {exc!r}") from None


def _read(settings: Settings, spark: SparkSession, positions: dict[int, Position]) -> DataFrame:
    """All records that Kafka keeps, judged as the table job judges them, with `is_read`."""
    source = spark.read.format("kafka").options(**spark_options(settings))
    source = source.option("assign", json.dumps({RECORDS.name: list(positions)}))
    for name, side in (("startingOffsets", "first"), ("endingOffsets", "end")):
        source = source.option(name, json.dumps({RECORDS.name: {str(p): getattr(place, side) for p, place in positions.items()}}))
    reached = F.create_map(*[F.lit(n) for p, place in positions.items() for n in (p, place.reached)])
    keys = F.transform("assessments", lambda a: F.concat_ws("|", a["assessment_type"], a["direction"]))
    return judged(source.load()).select(
        "kind", "request_id", "timestamp_ms", "partition", "offset", "appended_ms", "inference_table", "usage_tracking",
        keys.alias("assessed"), "source_topic", "source_partition", "source_offset",
        (F.col("offset") < reached[F.col("partition")]).alias("is_read"),
    )  # fmt: skip


def _with_copies(spark: SparkSession, records: DataFrame) -> DataFrame:
    """`records` with `is_copy`."""
    same = Window.partitionBy("kind", "request_id")
    in_order = same.orderBy("appended_ms", "partition", "offset")
    records = records.withColumns(
        {
            "number": F.when(F.col("kind") == KIND_RECORD, F.row_number().over(in_order)).otherwise(1),
            "spread_ms": F.max("timestamp_ms").over(same) - F.min("timestamp_ms").over(same),
        }
    )
    # An id that comes again after a day is another request: only then does more than the first one count.
    again = records.where((F.col("kind") == KIND_RECORD) & (F.col("number") > 1) & (F.col("spread_ms") >= DAY_MS)).select("request_id")
    if not again.isEmpty():
        rows = records.join(again.distinct(), "request_id").select(
            F.lit(RECORDS.name).alias("topic"), "partition", "offset", "appended_ms", "request_id", "timestamp_ms"
        ).collect()  # fmt: skip
        copies = copies_among(rows, ())
        places = [(row.partition, row.offset) for row in rows if (row.topic, row.partition, row.offset) not in copies]
        counting = spark.createDataFrame(places, "partition int, offset long").withColumn("counts", F.lit(True))
        records = records.join(F.broadcast(counting), ["partition", "offset"], "left")
    else:
        records = records.withColumn("counts", F.lit(None).cast("boolean"))
    return records.withColumn("is_copy", (F.col("number") > 1) & ~F.coalesce("counts", F.lit(False))).drop("number", "spread_ms", "counts")


def _gaps(spark: SparkSession, records: DataFrame, landing: DeltaFolder, positions: dict[int, Position]) -> dict[int, int]:
    marks = spark.createDataFrame([(p, place.first) for p, place in positions.items()], "partition int, offset long")
    known = records.select("partition", "offset").union(marks)
    if landing.exists():
        known = known.union(landing.read().where(F.col("topic") == RECORDS.name).select("partition", "offset"))
    before = F.lag("offset").over(Window.partitionBy("partition").orderBy("offset"))
    holes = known.distinct().select("partition", (F.col("offset") - before - 1).alias("hole")).where("hole > 0")
    return {row.partition: int(row.holes) for row in holes.groupBy("partition").agg(F.sum("hole").alias("holes")).collect()}


def _explained_since_ms(records: DataFrame, positions: dict[int, Position]) -> int | None:
    """From when on every row must have its record in Kafka; None where nothing can be said."""
    cut = [p for p, place in positions.items() if place.first > 0]
    if not cut:
        return 0
    firsts = records.where(F.col("partition").isin(cut)).groupBy("partition").agg(F.min("appended_ms").alias("ms")).collect()
    return max(row.ms for row in firsts) if len(firsts) == len(cut) else None
