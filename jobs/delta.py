"""One Delta table as the table job handles it: by its folder, so that no catalog and no running service stands between.

Says whether it is there, what it has reached (version, transactions) and makes it. What a commit may skip or repeat is decided by
its callers. Fails with whatever Spark raises; `reason` turns that into one line.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

STAGE_FAILURE = re.compile(r"^.*?Job aborted due to stage failure: .*? executor driver\): ", re.DOTALL)


class DeltaFolder:
    """The Delta table in `path`; nothing is read before it is asked for."""

    def __init__(self, spark: SparkSession, path: Path) -> None:
        self.spark, self.path = spark, path

    def exists(self) -> bool:
        """Whether there is a table (its log holds a commit)."""
        return any((self.path / "_delta_log").glob("*.json"))

    def create(self, schema: StructType, stats: tuple[str, ...], properties: dict[str, str] | None = None) -> None:
        """Make the empty table where there is none. `stats`: the columns to keep minima and maxima of (never long texts)."""
        if self.exists():
            return
        self._clear_broken_start()
        builder = DeltaTable.createIfNotExists(self.spark).location(str(self.path)).addColumns(schema)
        for key, value in {"delta.dataSkippingStatsColumns": ",".join(stats), **(properties or {})}.items():
            builder = builder.property(key, value)
        builder.execute()

    def _clear_broken_start(self) -> None:
        """A first commit that broke off (a full disk) leaves a log folder with temporary files, in which Delta 4.4 makes no table."""
        log = self.path / "_delta_log"
        if log.is_dir() and all(place.is_dir() or place.name.startswith(".") for place in log.rglob("*")):
            shutil.rmtree(log)

    def read(self) -> DataFrame:
        """The table's newest state."""
        return self.spark.read.format("delta").load(str(self.path))

    def append(self, rows: DataFrame, app_id: str, version: int) -> None:
        """Add rows in one commit; a commit of the same `app_id` at this `version` or a later one is done already and skipped."""
        self._writer(rows, "append", app_id, version).save(str(self.path))

    def replace(self, rows: DataFrame, where: str, app_id: str, version: int) -> None:
        """Put `rows` in the place of all rows `where` holds for, in one commit, with the same rule of skipping."""
        self._writer(rows, "overwrite", app_id, version).option("replaceWhere", where).save(str(self.path))

    def version(self) -> int:
        """The newest commit's number."""
        return int(self._snapshot().version())

    def created_ms(self) -> int:
        """When the table was made, by its maker's clock (epoch milliseconds)."""
        return int(self._snapshot().metadata().createdTime().get())

    def table_id(self) -> str:
        """The table's identity: another one after the folder was deleted and made again."""
        return str(self._snapshot().metadata().id())

    def transaction(self, app_id: str) -> int:
        """The version that `app_id` has reached in this table, -1 where it never wrote to it."""
        found = self._snapshot().transactions().get(app_id)
        return int(found.get()) if found.isDefined() else -1

    def optimize(self) -> None:
        """Join small files."""
        DeltaTable.forPath(self.spark, str(self.path)).optimize().executeCompaction()

    def vacuum(self) -> None:
        """Remove files that no version within the table's own retention needs."""
        DeltaTable.forPath(self.spark, str(self.path)).vacuum()

    def _writer(self, rows: DataFrame, mode: str, app_id: str, version: int) -> Any:
        return rows.write.format("delta").mode(mode).option("txnAppId", app_id).option("txnVersion", version)

    def _snapshot(self) -> Any:
        jvm: Any = self.spark.sparkContext._jvm
        log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self.spark._jsparkSession, str(self.path))
        defaults = [getattr(log, f"update$default${i}")() for i in (1, 2, 3)]
        return log.update(*defaults)


def tables_in(warehouse: Path, suffix: str = "") -> list[tuple[str, str, str]]:
    """Catalog, schema and table of all tables there whose names end so, in order."""
    folders = sorted(log.parent for log in warehouse.glob(f"*/*/*{suffix}/_delta_log"))
    return [(folder.parts[-3], folder.parts[-2], folder.parts[-1]) for folder in folders]


def reason(exc: BaseException) -> str:
    """What went wrong, in one line, without a stack and without any row's content."""
    text = str(exc.java_exception.toString()) if isinstance(exc, Py4JJavaError) else str(exc)
    # What a task met says more than which task it was.
    text = STAGE_FAILURE.sub("", text)
    if isinstance(exc, PySparkException) and exc.getCondition():
        text = text.split("SQLSTATE")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("at ")]
    return " ".join(lines[:2])[:300] or type(exc).__name__
