"""The landing table: every batch from Kafka, appended once, before anything is spread over the other tables.

Reads three topics and judges each record (what is unreadable lands as a dead letter, with its bytes and the reason), cuts texts over
1 MiB, and writes files. What these hold is looked at before they count: copies of a request that was recorded within the last 24 hours
are dropped, and what was erased before it came (again) is left out. One commit, bound to checkpoint and batch, adds the rest: a batch
that runs again adds nothing. Nothing in a record makes a batch fail.

Who has the landing table has everybody's text: see docs/tables.md for its retention.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from jobs.delta import DeltaFolder
from jobs.erased_users import ErasedUsers
from jobs.erasing import erased, without_creator
from jobs.landed import KIND_DEAD_LETTER, KIND_ENDPOINT, KIND_RECORD, Fact, Known, Landed, Place, copies_among, place_of
from jobs.recent_ids import RecentIds
from jobs.schemas import LANDING, RECORD, default_of, required_fields, struct_of
from jobs.session import COMPILE_QUERIES
from pipeline.endpoints import TABLE_PART_PATTERN, Endpoint
from pipeline.records import MAX_REQUEST_ID_CHARS, DeadLetter, InferenceRecord
from pipeline.topics import DAY_MS, DEAD_LETTERS, ENDPOINTS, HOUR_MS, RECORDS

log = logging.getLogger(__name__)

NAME = ("system", "internal", "landing")
STATS = ("landing_seq", "kind", "request_id", "timestamp_ms", "appended_ms", "offset")
# Files that compaction or retention made superfluous hold text: they go within the hour.
PROPERTIES = {
    "delta.logRetentionDuration": "interval 6 hours",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.checkpointInterval": "20",
}
# A batch becomes so many files more, up to one for each core.
ROWS_OF_A_FILE = 2_000
# From so many records on, compiling the batch's query takes less than it saves.
MANY_ROWS = 10_000
MAX_TEXT_BYTES = 1024 * 1024
FEW_IDS = 100
LAST_MS = 253_402_300_800_000
CORRUPT = "_corrupt"
# No option may be left out: Spark would otherwise read only the fields that are asked for, and judge only those.
JSON_OPTIONS = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}


class Landing:
    """Writes the landing table; one writer at a time. `checkpoint` is the streaming query's, whose identity binds the batches."""

    def __init__(self, spark: SparkSession, warehouse: Path, checkpoint: Path, erased_users: ErasedUsers) -> None:
        self.table = DeltaFolder(spark, warehouse.joinpath(*NAME))
        self.table.create(LANDING, STATS, PROPERTIES)
        self.table.widen(LANDING)
        self._checkpoint, self._erased_users = checkpoint, erased_users
        self._recent = RecentIds()
        self._recent.load(self.table.read().where(F.col("kind") == KIND_RECORD).select("request_id", "timestamp_ms").toLocalIterator())
        # The batch that has landed last, where this process knows it; where not, the table is asked.
        self._landed: int | None = None
        # How many records the last batch had: the next one has about as many. The first is taken for one that keeps all cores busy.
        self._rows = spark.sparkContext.defaultParallelism * ROWS_OF_A_FILE

    def take(self, batch: DataFrame, batch_id: int) -> Landed | None:
        """Land one micro-batch, already judged; None where it has landed before. Raises only what the table's folder is to blame for."""
        app_id = f"checkpoint-{self._checkpoint_id()}"
        before, self._landed = self._landed, None
        if before != batch_id - 1 and self.table.transaction(app_id) >= batch_id:
            log.info("batch %d has landed before; nothing to add", batch_id)
            return None
        session = batch.sparkSession
        tasks = session.sparkContext.defaultParallelism
        landed, columns = Landed(self.table.version() + 1), [F.col(f.name) for f in LANDING.fields]
        facts, copies, bad = list[Fact](), set[Place](), dict[Place, str]()

        def instead(paths: list[str]) -> DataFrame | None:
            """Read Kafka and its JSON once: what a batch holds is asked of its files, which are written again where something must go."""
            nonlocal facts, copies, bad
            if not paths:
                return None
            written = session.read.schema(LANDING).parquet(*paths)
            facts = _facts(written, tasks)
            copies = self._copies(session, [row for row in facts if row.kind == KIND_RECORD])
            bad = {place_of(row): problem for row in facts if row.kind == KIND_ENDPOINT and (problem := _endpoint_problem(row))}
            rows = self._without_erased(session, _with_reasons(session, _without(session, written, copies), bad), facts, bad)
            return None if rows is written else rows.select(*columns).coalesce(tasks)

        session.conf.set(COMPILE_QUERIES, "FALLBACK" if self._rows > MANY_ROWS else "NO_CODEGEN")
        rows = batch.withColumn("landing_seq", F.lit(landed.seq).cast("long")).select(*columns)
        rows = rows.coalesce(min(tasks, 1 + self._rows // ROWS_OF_A_FILE))
        landed.files = self.table.append(rows, app_id, batch_id, instead)
        self._rows = len(facts)
        _warn_of_lag(facts)
        for row in facts:
            place = place_of(row)
            if place in bad:
                landed.rows += 1
                landed.dead_letters += 1
            elif place not in copies:
                landed.count(row)
                if row.kind == KIND_RECORD:
                    self._recent.add(row.request_id, row.timestamp_ms)
        self._landed = batch_id
        return landed

    def _without_erased(self, session: SparkSession, rows: DataFrame, facts: list[Fact], bad: dict[Place, str]) -> DataFrame:
        users = self._erased_users
        if any(row.timestamp_ms <= users.newest_until_ms for row in facts):
            rows = erased(rows, users)
        configured = [row for row in facts if row.kind == KIND_ENDPOINT and row.value and place_of(row) not in bad] if users.all else []
        values = [(*place_of(row), value) for row in configured if row.value and (value := without_creator(bytes(row.value), users))]
        if not values:
            return rows
        new = F.broadcast(session.createDataFrame(values, "topic string, partition int, offset long, new_value binary"))
        joined = rows.join(new, ["topic", "partition", "offset"], "left")
        return joined.withColumn("value", F.coalesce("new_value", "value")).drop("new_value")

    def newest_seq(self) -> int:
        """The number of the newest batch that has landed, -1 for none."""
        newest = self.table.read().agg(F.max("landing_seq")).collect()[0][0]
        return -1 if newest is None else int(newest)

    def _checkpoint_id(self) -> str:
        # Spark makes it with the checkpoint, so it is gone exactly when the numbering of batches starts anew.
        return str(json.loads((self._checkpoint / "metadata").read_text(encoding="utf-8"))["id"])

    def _copies(self, session: SparkSession, records: list[Fact]) -> set[Place]:
        """The places of the records whose request was recorded within 24 hours, in this batch or before it."""
        suspects, known = [], list[Known]()
        for r in records:
            if (at_ms := self._recent.landed_at(r.request_id, r.timestamp_ms)) is not None:
                known.append(Known(r.request_id, at_ms))
            elif self._recent.may_hold(r.request_id, r.timestamp_ms):
                suspects.append(r)
        if not suspects:
            return copies_among(records, known)
        low, high = min(r.timestamp_ms for r in suspects) - DAY_MS, max(r.timestamp_ms for r in suspects) + DAY_MS
        ids = sorted({r.request_id for r in suspects})
        recorded = session.read.format("delta").load(str(self.table.path)).where(
            (F.col("kind") == KIND_RECORD) & F.col("timestamp_ms").between(low, high)
        )  # fmt: skip
        if len(ids) <= FEW_IDS:
            # By values in the query files without them are left out: ids that were made in the order of time lie in few.
            recorded = recorded.where(F.col("request_id").isin(ids))
        else:
            recorded = recorded.join(F.broadcast(session.createDataFrame([(i,) for i in ids], "request_id string")), "request_id")
        known += [Known(*row) for row in map(tuple, recorded.select("request_id", "timestamp_ms").collect())]
        return copies_among(records, known)


def app_id_of(landing: DeltaFolder) -> str:
    """The name under which tables remember how many of this landing table's batches they hold."""
    return f"landing-{landing.table_id()}"


def _endpoint_problem(raw: Fact) -> str | None:
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


def _facts(batch: DataFrame, tasks: int) -> list[Fact]:
    table = F.col("inference_table")
    rows = batch.select(
        "topic", "partition", "offset", "appended_ms", "kind", F.coalesce("request_id", F.lit("")), "timestamp_ms",
        table["catalog_name"], table["schema_name"], table["table_name_prefix"], "usage_tracking", F.size("assessments") > 0,
        *(F.when(F.col("kind") == KIND_ENDPOINT, F.col(name)) for name in ("key", "value")),
    ).coalesce(tasks).collect()  # fmt: skip
    # Columns by their places, not by their names.
    return [Fact._make((*row[:7], row[7:10] if row[9] is not None else None, *row[10:])) for row in map(tuple, rows)]


def _warn_of_lag(facts: list[Fact]) -> None:
    times = [row.appended_ms for row in facts if row.topic == RECORDS.name]
    oldest_h = (time.time() * 1000 - min(times)) / HOUR_MS if times else 0.0
    limit_h = (RECORDS.retention_ms or 0) / HOUR_MS / 2
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
