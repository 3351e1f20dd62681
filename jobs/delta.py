"""One Delta table as the table job handles it: by its folder, so that no catalog and no running service stands between.

Says whether it is there, what it has reached (version, transactions) and makes it. What a commit may skip or repeat is decided by
its callers. Fails with whatever Spark raises; `reason` turns that into one line.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from delta.exceptions import MetadataChangedException, ProtocolChangedException
from delta.tables import DeltaMergeBuilder, DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

MAX_CAUSES = 20
# Of a commit that others' changes of the table get in the way of.
TRIES = 5
STAGE_FAILURE = re.compile(r"^.*?Job aborted due to stage failure: .*? executor driver\): ", re.DOTALL)
# Of written files, which rows to commit instead of them; None for the files themselves.
Instead = Callable[[list[str]], DataFrame | None]


class DeltaFolder:
    """The Delta table in `path`; nothing is read before it is asked for."""

    def __init__(self, spark: SparkSession, path: Path) -> None:
        self.spark, self.path = spark, path

    def exists(self) -> bool:
        """Whether there is a table (its log holds a commit)."""
        return any((self.path / "_delta_log").glob("*.json"))

    def create(self, schema: StructType, stats: tuple[str, ...], properties: dict[str, str] | None = None) -> None:
        """Make the empty table where there is none. `stats`: the columns to keep minima and maxima of (never long texts, nor names)."""
        if self.exists():
            return
        self._clear_broken_start()
        builder = DeltaTable.createIfNotExists(self.spark).location(str(self.path)).addColumns(schema)
        kept = {"delta.dataSkippingStatsColumns": ",".join(stats)} if stats else {"delta.dataSkippingNumIndexedCols": "0"}
        for key, value in {**kept, **(properties or {})}.items():
            builder = builder.property(key, value)
        builder.execute()

    def widen(self, schema: StructType) -> None:
        """Give a table that an earlier version has made the columns that it lacks; in its rows they are NULL."""
        if not set(schema.names) <= set(self.read().columns):
            empty = self.spark.createDataFrame([], StructType([StructField(f.name, f.dataType) for f in schema.fields]))
            empty.write.format("delta").mode("append").option("mergeSchema", "true").save(str(self.path))

    def _clear_broken_start(self) -> None:
        """A first commit that broke off (a full disk) leaves a log folder with temporary files, in which Delta 4.4 makes no table."""
        log = self.path / "_delta_log"
        if log.is_dir() and all(place.is_dir() or place.name.startswith(".") for place in log.rglob("*")):
            shutil.rmtree(log)

    def read(self) -> DataFrame:
        """The table's newest state."""
        return self.spark.read.format("delta").load(str(self.path))

    def append(self, rows: DataFrame, app_id: str, version: int, instead: Instead | None = None) -> list[str]:
        """Add rows in one commit which says that `app_id` has reached `version`; the new files' paths.

        `instead` is asked with the paths of the written files, before the commit, which rows are to take their place (None: they stay).
        Whether it has reached the version before is the caller's to know: Delta's own writer asks in every commit, and takes longer for
        that (it makes up the table's whole state) than for the rest. Where somebody adds a column or sets a property meanwhile, it is
        tried again.
        """
        for _ in range(TRIES - 1):
            try:
                return self._append(rows, app_id, version, instead)
            except (MetadataChangedException, ProtocolChangedException):
                if self.transaction(app_id) >= version:
                    raise
        return self._append(rows, app_id, version, instead)

    def _append(self, rows: DataFrame, app_id: str, version: int, instead: Instead | None) -> list[str]:
        jvm: Any = self.spark.sparkContext._jvm
        delta = jvm.org.apache.spark.sql.delta
        jvm.org.apache.spark.sql.SparkSession.setActiveSession(rows._jdf.sparkSession())
        transaction = self._log().startTransaction()
        files = transaction.writeFiles(rows._jdf)
        paths = self._paths(files)
        others = instead(paths) if instead else None
        if others is not None:
            files = transaction.writeFiles(others._jdf)
            for path in paths:
                Path(path).unlink(missing_ok=True)
            paths = self._paths(files)
        reached = delta.actions.SetTransaction(app_id, version, jvm.scala.Some(int(time.time() * 1000)))
        appended = jvm.org.apache.spark.sql.streaming.OutputMode.Append()
        # What Delta's own streaming sink says of its commits.
        operation = getattr(delta, "DeltaOperations$StreamingUpdate")(appended, app_id, version, jvm.scala.Option.empty())
        transaction.commit(files.appended(reached), operation)
        return paths

    def _paths(self, files: Any) -> list[str]:
        return [str(self.path / unquote(files.apply(i).path())) for i in range(files.size())]

    def replace(self, rows: DataFrame, where: str, reached: tuple[str, int] | None = None) -> None:
        """Put `rows` in the place of all rows `where` holds for, in one commit.

        `reached`: an app id and its version; a commit of the same one at this version or a later one is done already and skipped.
        """
        writer = rows.coalesce(1).write.format("delta").mode("overwrite").option("replaceWhere", where)
        if reached is not None:
            writer = writer.option("txnAppId", reached[0]).option("txnVersion", reached[1])
        writer.save(str(self.path))

    def merging(self, source: DataFrame, condition: str | Column) -> DeltaMergeBuilder:
        """A MERGE of `source` (s) into this table (t), to be told what it does. The condition stands in the table's history: no names."""
        return DeltaTable.forPath(self.spark, str(self.path)).alias("t").merge(source.alias("s"), condition)

    def delete(self, where: Column) -> None:
        """Delete the rows `where` holds for. It stands in the table's history: no names in it."""
        DeltaTable.forPath(self.spark, str(self.path)).delete(where)

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

    def _log(self) -> Any:
        jvm: Any = self.spark.sparkContext._jvm
        return jvm.org.apache.spark.sql.delta.DeltaLog.forTable(self.spark._jsparkSession, str(self.path))

    def _snapshot(self) -> Any:
        log = self._log()
        defaults = [getattr(log, f"update$default${i}")() for i in (1, 2, 3)]
        return log.update(*defaults)


def tables_in(warehouse: Path, suffix: str = "") -> list[tuple[str, str, str]]:
    """Catalog, schema and table of all tables there whose names end so, in order."""
    folders = sorted(log.parent for log in warehouse.glob(f"*/*/*{suffix}/_delta_log"))
    return [(folder.parts[-3], folder.parts[-2], folder.parts[-1]) for folder in folders]


def reason(exc: BaseException) -> str:
    """What went wrong, in one line, without a stack and without any row's content."""
    text = _java_reason(exc.java_exception) if isinstance(exc, Py4JJavaError) else str(exc)
    # What a task met says more than which task it was.
    text = STAGE_FAILURE.sub("", text)
    if isinstance(exc, PySparkException) and exc.getCondition():
        text = text.split("SQLSTATE")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("at ")]
    return " ".join(lines[:2])[:300] or type(exc).__name__


def _java_reason(exc: Any) -> str:
    """Of what a file system said, the words; else those of the outermost exception, since inner ones may quote rows."""
    causes = [exc]
    while (cause := causes[-1].getCause()) is not None and len(causes) < MAX_CAUSES:
        causes.append(cause)
    said = [str(cause.toString()) for cause in causes]
    return next((text for text in reversed(said) if text.startswith(("java.io.", "java.nio.file."))), said[0])
