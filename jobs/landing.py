"""The landing table: every batch from Kafka, appended once, before anything is spread over the other tables.

Reads three topics and judges each record (what is unreadable lands as a dead letter, with its bytes and the reason), drops the
copies of a request that was recorded within the last 24 hours, cuts texts over 1 MiB, and appends the rest in one commit bound to
checkpoint and batch: a batch that runs again adds nothing. Nothing in a record makes a batch fail.

Who has the landing table has everybody's text: see docs/tables.md for its retention.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from jobs.delta import DeltaFolder
from jobs.recent_ids import RecentIds
from jobs.schemas import LANDING, RECORD, default_of, required_fields, struct_of
from pipeline.endpoints import TABLE_PART_PATTERN, Endpoint
from pipeline.records import MAX_REQUEST_ID_CHARS, DeadLetter, InferenceRecord
from pipeline.topics import DAY_MS, DEAD_LETTERS, ENDPOINTS, RECORDS

log = logging.getLogger(__name__)

NAME = ("system", "internal", "landing")
STATS = ("landing_seq", "kind", "request_id", "timestamp_ms", "appended_ms", "offset")
# Files that compaction or retention made superfluous hold text: they go within the hour.
PROPERTIES = {
    "delta.logRetentionDuration": "interval 6 hours",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.checkpointInterval": "20",
}
MAX_TEXT_BYTES = 1024 * 1024
LAST_MS = 253_402_300_800_000
CORRUPT = "_corrupt"
# No option may be left out: Spark would otherwise read only the fields that are asked for, and judge only those.
JSON_OPTIONS = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
KIND_RECORD, KIND_ENDPOINT, KIND_DEAD_LETTER = "record", "endpoint", "dead_letter"
Place = tuple[str, int, int]
TableName = tuple[str, str, str]


@dataclass
class Span:
    """The times (epoch milliseconds) between which some rows lie, and the hours they touch (epoch hours).

    `appended_ms`: when Kafka took the first of their records; 0 where that is not known. `rows`: how many they are, as far as is known.
    """

    min_ms: int
    max_ms: int
    hours: set[int] = field(default_factory=set)
    appended_ms: int = 0
    rows: int = 0

    def add(self, other: Span) -> None:
        """Widen to hold the other's rows too."""
        self.rows += other.rows
        self.min_ms, self.max_ms = min(self.min_ms, other.min_ms), max(self.max_ms, other.max_ms)
        self.appended_ms = min(self.appended_ms, other.appended_ms)
        self.hours |= other.hours

    @classmethod
    def of(cls, row: Row) -> Span:
        """That of one landed record."""
        return cls(row.timestamp_ms, row.timestamp_ms, {row.timestamp_ms // 3_600_000}, row.appended_ms, rows=1)


@dataclass
class Landed:
    """What a batch put into the landing table, as far as the spreading must know. Keys of `tables`: catalog, schema, prefix."""

    seq: int
    rows: int = 0
    tables: dict[TableName, Span] = field(default_factory=dict)
    assessed: dict[TableName, Span] = field(default_factory=dict)
    usage: Span | None = None
    dead_letters: int = 0
    endpoints: int = 0

    def count(self, row: Row) -> None:
        """Take note of one landed row."""
        self.rows += 1
        if row.kind != KIND_RECORD:
            self.dead_letters += row.kind == KIND_DEAD_LETTER
            self.endpoints += row.kind == KIND_ENDPOINT
            return
        if row.inference_table is not None:
            table = (row.inference_table.catalog_name, row.inference_table.schema_name, row.inference_table.table_name_prefix)
            _widen(self.tables, table, Span.of(row))
            if row.assessed:
                _widen(self.assessed, table, Span.of(row))
        if row.usage_tracking:
            span = Span.of(row)
            self.usage.add(span) if self.usage else setattr(self, "usage", span)


def _widen(spans: dict[TableName, Span], table: TableName, span: Span) -> None:
    if table in spans:
        spans[table].add(span)
    else:
        spans[table] = span


class Landing:
    """Writes the landing table; one writer at a time. `checkpoint` is the streaming query's, whose identity binds the batches."""

    def __init__(self, spark: SparkSession, warehouse: Path, checkpoint: Path) -> None:
        self.table = DeltaFolder(spark, warehouse.joinpath(*NAME))
        self.table.create(LANDING, STATS, PROPERTIES)
        self._checkpoint = checkpoint
        self._recent = RecentIds()
        self._recent.load(self.table.read().where(F.col("kind") == KIND_RECORD).select("request_id", "timestamp_ms").toLocalIterator())
        # The batch that has landed last, where this process knows it; where not, the table is asked.
        self._landed: int | None = None

    def take(self, batch: DataFrame, batch_id: int) -> Landed | None:
        """Land one micro-batch, already judged; None where it has landed before. Raises only what the table's folder is to blame for."""
        app_id = f"checkpoint-{self._checkpoint_id()}"
        before, self._landed = self._landed, None
        if before != batch_id - 1 and self.table.transaction(app_id) >= batch_id:
            log.info("batch %d has landed before; nothing to add", batch_id)
            return None
        facts = batch.select(
            "topic", "partition", "offset", "appended_ms", "kind", "request_id", "timestamp_ms", "inference_table", "usage_tracking",
            (F.size("assessments") > 0).alias("assessed"), F.when(F.col("kind") == KIND_ENDPOINT, F.struct("key", "value")).alias("raw"),
        ).coalesce(2).collect()  # fmt: skip
        _warn_of_lag(facts)
        landed = Landed(self.table.version() + 1)
        session = batch.sparkSession
        copies = self._copies(session, [row for row in facts if row.kind == KIND_RECORD])
        bad = {_place(row): problem for row in facts if row.kind == KIND_ENDPOINT and (problem := _endpoint_problem(row.raw))}
        rows = _with_reasons(session, _without(session, batch, copies), bad)
        rows = rows.withColumn("landing_seq", F.lit(landed.seq).cast("long")).select(*[F.col(f.name) for f in LANDING.fields])
        self.table.append(rows.coalesce(1 if len(facts) < 2_000 else 2), app_id, batch_id)
        for row in facts:
            place = _place(row)
            if place in bad:
                landed.rows += 1
                landed.dead_letters += 1
            elif place not in copies:
                landed.count(row)
                if row.kind == KIND_RECORD:
                    self._recent.add(row.request_id, row.timestamp_ms)
        self._landed = batch_id
        return landed

    def newest_seq(self) -> int:
        """The number of the newest batch that has landed, -1 for none."""
        newest = self.table.read().agg(F.max("landing_seq")).collect()[0][0]
        return -1 if newest is None else int(newest)

    def _checkpoint_id(self) -> str:
        # Spark makes it with the checkpoint, so it is gone exactly when the numbering of batches starts anew.
        return str(json.loads((self._checkpoint / "metadata").read_text(encoding="utf-8"))["id"])

    def _copies(self, session: SparkSession, records: list[Row]) -> set[Place]:
        """The places of the records whose request was recorded within 24 hours, in this batch or before it."""
        suspects = [r for r in records if self._recent.may_hold(r.request_id, r.timestamp_ms)]
        if not suspects:
            return copies_among(records, ())
        low, high = min(r.timestamp_ms for r in suspects) - DAY_MS, max(r.timestamp_ms for r in suspects) + DAY_MS
        ids = session.createDataFrame([(i,) for i in sorted({r.request_id for r in suspects})], "request_id string")
        recorded = session.read.format("delta").load(str(self.table.path)).where(
            (F.col("kind") == KIND_RECORD) & F.col("timestamp_ms").between(low, high)
        )  # fmt: skip
        known = recorded.join(F.broadcast(ids), "request_id").select("request_id", "timestamp_ms").collect()
        return copies_among(records, known)


def app_id_of(landing: DeltaFolder) -> str:
    """The name under which tables remember how many of this landing table's batches they hold."""
    return f"landing-{landing.table_id()}"


def copies_among(records: Iterable[Row], known: Iterable[Row]) -> set[Place]:
    """The places of those `records` that are copies: in the log's order, within 24 hours of a record of that id that counts.

    `known` are the ids and times that count already. The order is by append time, then partition, then offset.
    """
    counting: dict[str, list[int]] = {}
    for row in known:
        counting.setdefault(row.request_id, []).append(row.timestamp_ms)
    copies = set()
    for row in sorted(records, key=lambda r: (r.appended_ms, r.partition, r.offset)):
        times = counting.setdefault(row.request_id, [])
        if any(abs(row.timestamp_ms - t) < DAY_MS for t in times):
            copies.add(_place(row))
        else:
            times.append(row.timestamp_ms)
    return copies


def _place(row: Row) -> Place:
    return row.topic, row.partition, row.offset


def _endpoint_problem(raw: Row) -> str | None:
    """Why this is no endpoint's configuration, or None; a tombstone (no value) is a deletion."""
    if raw.key is None:
        return "an endpoint's record without a key"
    if raw.value is None:
        return None
    try:
        endpoint = Endpoint.model_validate_json(bytes(raw.value))
    except ValidationError as exc:
        return f"not an endpoint's configuration ({exc.error_count()} errors)"
    return None if endpoint.name.encode() == bytes(raw.key) else "an endpoint's record under another name's key"


def _places_frame(session: SparkSession, places: Iterable[Place], reasons: Iterable[str]) -> DataFrame:
    rows = [(*place, why) for place, why in zip(places, reasons, strict=True)]
    return F.broadcast(session.createDataFrame(rows, "topic string, partition int, offset long, why string"))


def _without(session: SparkSession, judged: DataFrame, copies: set[Place]) -> DataFrame:
    if not copies:
        return judged
    log.info("%d records are copies of requests that are recorded already", len(copies))
    dropped = _places_frame(session, copies, [""] * len(copies)).drop("why")
    return judged.join(dropped, ["topic", "partition", "offset"], "left_anti")


def _with_reasons(session: SparkSession, judged: DataFrame, bad: dict[Place, str]) -> DataFrame:
    if not bad:
        return judged
    joined = judged.join(_places_frame(session, bad, bad.values()), ["topic", "partition", "offset"], "left")
    is_bad = F.col("why").isNotNull()
    kind = F.when(is_bad, F.lit(KIND_DEAD_LETTER)).otherwise(F.col("kind"))
    return joined.withColumns({"kind": kind, "reason": F.coalesce("why", "reason")}).drop("why")


def _warn_of_lag(facts: list[Row]) -> None:
    times = [row.appended_ms for row in facts if row.topic == RECORDS.name]
    oldest_h = (time.time() * 1000 - min(times)) / 3_600_000 if times else 0.0
    limit_h = (RECORDS.retention_ms or 0) / 3_600_000 / 2
    if oldest_h > limit_h:
        log.error(
            "%.0f hours behind, beyond half of what %s keeps: rows will be lost unless the job catches up", oldest_h, RECORDS.name
        )  # fmt: skip


def judged(batch: DataFrame) -> DataFrame:
    """Kafka records in the landing table's columns but `landing_seq`, each with its kind and, as a dead letter, the reason."""
    text = F.col("value").cast("string")
    corrupt = StructField(CORRUPT, StringType())
    is_record, is_letter = F.col("topic") == RECORDS.name, F.col("topic") == DEAD_LETTERS.name
    read = batch.select(
        "key", "value", "topic", "partition", "offset", F.unix_millis("timestamp").alias("appended_ms"),
        F.when(is_record, F.from_json(text, StructType([*RECORD.fields, corrupt]), JSON_OPTIONS)).alias("r"),
        F.when(is_letter, F.from_json(text, StructType([*struct_of(DeadLetter).fields, corrupt]), JSON_OPTIONS)).alias("d"),
        F.coalesce(F.is_valid_utf8(F.col("value").cast("string")) & F.ltrim(text).startswith("{"), F.lit(False)).alias("is_object"),
    )  # fmt: skip
    problem = F.when(is_record, _problem("r", InferenceRecord, _record_rules())).when(is_letter, _problem("d", DeadLetter, []))
    read = read.withColumn("problem", problem)
    kind = (
        F.when(is_record & F.col("problem").isNull(), KIND_RECORD)
        .when(F.col("topic") == ENDPOINTS.name, KIND_ENDPOINT)
        .otherwise(KIND_DEAD_LETTER)
    )
    good, told = is_record & F.col("problem").isNull(), is_letter & F.col("problem").isNull()

    def of_letter(theirs: Column, ours: Column) -> Column:
        """What another reader's dead letter says of the bytes that it could not read; else what Kafka says of this record."""
        return F.when(told, theirs).otherwise(ours)

    def bytes_of(column: str) -> Column:
        return of_letter(F.try_to_binary(F.col(f"d.{column}_base64"), F.lit("base64")), F.col(column))

    return read.select(
        kind.alias("kind"),
        F.when(good, F.col("r.request_id")).alias("request_id"),
        F.when(good, F.col("r.timestamp_ms")).otherwise(of_letter(F.col("d.timestamp_ms"), F.col("appended_ms"))).alias("timestamp_ms"),
        "topic", "partition", "offset", "appended_ms",
        *[F.when(~good, of_letter(F.col(f"d.{name}"), F.col(name))).alias(f"source_{name}") for name in ("topic", "partition", "offset")],
        of_letter(F.col("d.reason"), F.col("problem")).alias("reason"),
        F.when(~good, bytes_of("key")).alias("key"),
        F.when(~good, bytes_of("value")).alias("value"),
        *[F.when(good, column).alias(name) for name, column in _record_columns()],
    )  # fmt: skip


def _record_columns() -> list[tuple[str, Column]]:
    """The record's fields with their defaults filled in and its long texts cut."""
    columns = {}
    for name, info in InferenceRecord.model_fields.items():
        if name in ("request_id", "timestamp_ms", "schema_version"):
            continue
        value, default = F.col(f"r.{name}"), default_of(info)
        if default is not None:
            kind = RECORD[name].dataType
            empty = F.from_json(F.lit(json.dumps(default)), kind.simpleString()) if isinstance(default, list | dict) else F.lit(default)
            value = F.coalesce(value, empty.cast(kind))
        columns[name] = value
    for name in ("request", "response"):
        too_long = F.octet_length(F.col(f"r.{name}")) > MAX_TEXT_BYTES
        code = F.when(too_long, F.array(F.lit(f"MAX_{name.upper()}_SIZE_EXCEEDED"))).otherwise(F.array().cast("array<string>"))
        columns["logging_error_codes"] = F.array_distinct(F.concat(columns["logging_error_codes"], code))
        columns[name] = F.when(too_long, F.lit(None)).otherwise(F.col(f"r.{name}"))
    return list(columns.items())


def _problem(struct: str, model: type[InferenceRecord] | type[DeadLetter], rules: list[tuple[Column, str]]) -> Column:
    """Why the value is no such record, NULL where it is one."""
    found = F.when(F.col("value").isNull(), "no value").when(~F.col("is_object"), "not a JSON object in UTF-8")
    found = found.when(F.col(f"{struct}.{CORRUPT}").isNotNull(), "not JSON, or a field of a wrong type")
    for name in required_fields(model):
        found = found.when(F.col(f"{struct}.{name}").isNull(), f"field {name} is missing")
    for wrong, why in rules:
        found = found.when(F.coalesce(wrong, F.lit(True)), why)
    return found


def _record_rules() -> list[tuple[Column, str]]:
    table, parts = F.col("r.inference_table"), ("catalog_name", "schema_name", "table_name_prefix")
    names = F.lit(True)
    for part in parts:
        names = names & F.coalesce(table[part].rlike(TABLE_PART_PATTERN.replace("$", "\\z")), F.lit(False))
    return [
        (F.coalesce(F.col("r.schema_version"), F.lit(1)) != 1, "a version of the record that this table job does not know"),
        (~F.length("r.request_id").between(1, MAX_REQUEST_ID_CHARS), "request_id is empty or too long"),
        (~F.col("r.timestamp_ms").between(0, LAST_MS - 1), "timestamp_ms is no time between 1970 and 9999"),
        (table.isNotNull() & (~names | (table["catalog_name"] == "system")), "inference_table is not a name for a table"),
    ]
