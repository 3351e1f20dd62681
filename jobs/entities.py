"""`system.serving.served_entities`: one row for each served entity and change of its endpoint, from the records of gateway.endpoints.

Only endpoints with usage tracking show, as in `endpoint_usage`. A deleted endpoint's rows get their `endpoint_delete_time`. Records
are few, so they are read in Python with the model that wrote them; bad ones have become dead letters before. Running
over the same records again changes nothing. Fails as a target does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from jobs.delta import DeltaFolder
from jobs.landed import KIND_ENDPOINT, Span, TableName
from jobs.progress import Progress
from jobs.schemas import SERVED_ENTITIES
from jobs.targets import PROPERTIES, Name
from pipeline.endpoints import Endpoint

# What a source row asks for: a new row, or the end of an endpoint's open ones.
ADD, DELETE = "add", "delete"


@dataclass(frozen=True)
class Change:
    """One record of gateway.endpoints; `endpoint` None is a deletion."""

    name: str
    endpoint: Endpoint | None
    appended_ms: int

    @property
    def table(self) -> TableName | None:
        """Where the endpoint's inference tables lie, where they are enabled."""
        config = self.endpoint.ai_gateway.inference_table_config if self.endpoint else None
        if not config or not config.enabled:
            return None
        return config.catalog_name or "", config.schema_name or "", config.table_name_prefix or ""


def changes(landing: DataFrame, low: int, high: int) -> list[Change]:
    """The endpoints' records that landed after batch `low` up to `high`, in their order."""
    rows = landing.where((F.col("kind") == KIND_ENDPOINT) & (F.col("landing_seq") > low) & (F.col("landing_seq") <= high))
    found: list[Row] = rows.select("key", "value", "appended_ms", "partition", "offset").collect()
    return [
        Change(bytes(r.key).decode(errors="replace"), Endpoint.model_validate_json(bytes(r.value)) if r.value else None, r.appended_ms)
        for r in sorted(found, key=lambda r: (r.partition, r.offset))
    ]


class ServedEntities:
    """The table as a target of its own."""

    name: Name = ("system", "serving", "served_entities")

    def __init__(self, spark: SparkSession, warehouse: Path, app_id: str) -> None:
        # A session of its own: a MERGE takes its transaction from the session's settings.
        self._session, self._app_id = spark.newSession(), app_id
        self.table = DeltaFolder(self._session, warehouse.joinpath(*self.name))
        self.progress = Progress(self.table, app_id)

    @property
    def label(self) -> str:
        """The three-part name."""
        return ".".join(self.name)

    def ensure(self) -> None:
        """Make the table, empty, where it is not there."""
        self.table.create(SERVED_ENTITIES, ("served_entity_id", "endpoint_name", "change_time"), PROPERTIES)

    def write(self, landing: DataFrame, after: int, high: int, span: Span | None) -> None:
        """Take over the changes that landed after batch `after` up to `high`."""
        self.ensure()
        after = max(after, self.progress.before_write())
        rows = _source_rows(changes(landing, after, high))
        if rows:
            self._merge(rows, high)
        self.progress.done(high)

    def _merge(self, rows: list[tuple[object, ...]], high: int) -> None:
        own = [StructField("action", StringType()), StructField("followed_by", ArrayType(StringType()))]
        schema = StructType([*own, *SERVED_ENTITIES.fields])
        source = self._session.createDataFrame(rows, schema)
        self._session.conf.set("spark.databricks.delta.write.txnAppId", self._app_id)
        self._session.conf.set("spark.databricks.delta.write.txnVersion", str(high))
        # A deletion ends the rows of before these changes; where old changes are read again, the table has later ones too.
        ends = (
            "s.action = 'delete' AND t.endpoint_name = s.endpoint_name AND t.endpoint_delete_time IS NULL "
            "AND t.change_time <= s.endpoint_delete_time "
            "AND NOT array_contains(s.followed_by, concat_ws('|', t.served_entity_id, unix_millis(t.change_time)))"
        )
        known = "s.action = 'add' AND t.served_entity_id = s.served_entity_id AND t.change_time = s.change_time"
        (
            self.table.merging(source, f"({ends}) OR ({known})")
            .whenMatchedUpdate("t.endpoint_delete_time IS NULL", {"endpoint_delete_time": "s.endpoint_delete_time"})
            .whenNotMatchedInsert("s.action = 'add'", {f.name: f"s.{f.name}" for f in SERVED_ENTITIES.fields})
            .execute()
        )  # fmt: skip


def _source_rows(found: list[Change]) -> list[tuple[object, ...]]:
    """The MERGE's source: at most one ending for each endpoint, and the new rows with their ending where it follows here.

    What became of the new rows is said by themselves, in the log's order, so an ending names those that it is not for.
    """
    deleted: dict[str, Change] = {}
    added: dict[tuple[str, int], dict[str, object]] = {}
    for change in found:
        if change.endpoint is None:
            deleted.setdefault(change.name, change)
            for row in added.values():
                if row["endpoint_name"] == change.name:
                    row["endpoint_delete_time"] = row["endpoint_delete_time"] or _time(change.appended_ms)
        elif change.endpoint.usage_tracking:
            for row in _rows_of(change.endpoint):
                added[str(row["served_entity_id"]), change.endpoint.last_updated_timestamp] = row
    names = [f.name for f in SERVED_ENTITIES.fields]
    rows: list[tuple[object, ...]] = [(ADD, None, *(row.get(n) for n in names)) for row in added.values()]
    for change in deleted.values():
        end = {"endpoint_name": change.name, "endpoint_delete_time": _time(change.appended_ms)}
        own = [f"{entity}|{changed_ms}" for (entity, changed_ms), row in added.items() if row["endpoint_name"] == change.name]
        rows.append((DELETE, own, *(end.get(n) for n in names)))
    return rows


def _rows_of(endpoint: Endpoint) -> list[dict[str, object]]:
    return [
        {
            "served_entity_id": f"{endpoint.endpoint_id}-{entity.label}",
            "created_by": endpoint.creator,
            "endpoint_name": endpoint.name,
            "endpoint_id": endpoint.endpoint_id,
            "served_entity_name": entity.label,
            "entity_type": "EXTERNAL_MODEL",
            "entity_name": entity.external_model.name,
            "endpoint_config_version": endpoint.config_version,
            "task": entity.external_model.task,
            "external_model_config": (entity.external_model.provider,),
            "change_time": _time(endpoint.last_updated_timestamp),
            "endpoint_delete_time": None,
            "tags": endpoint.tag_map,
        }
        for entity in endpoint.config.served_entities
    ]


def _time(ms: int) -> datetime:
    # With its zone: pyspark takes a time without one for local.
    return datetime.fromtimestamp(ms / 1000, UTC)
