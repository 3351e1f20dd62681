"""SQL over the tables, as text: what `sluice sql` prints.

Takes one or several statements, separated by semicolons, and gives each one's rows as a table, as CSV or as JSON (one array of objects).
Times are UTC whatever the machine's zone. Every failure is a QueryFailed with one line that says what is wrong.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from rich import box
from rich.console import Console
from rich.table import Table

from jobs.delta import reason, tables_in
from jobs.session import MICRO_BATCHES, spark_session
from jobs.sql_client import Output, QueryFailed
from pipeline.settings import Settings

# What is compiled for a query on less takes longer than it saves: 2 of the 5 s that a job's first query took, of tables with a few rows.
LITTLE_BYTES = 16 * 1024 * 1024

# Quoted text and comments, in which a semicolon ends nothing.
_OPAQUE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|--[^\n]*|/\*.*?\*/""", re.S)


def run(query: str, settings: Settings, output: Output = "table") -> str:
    """As `run_in`, in a Spark of this process, started where there is none. Raises QueryFailed and what `spark_session` raises."""
    return run_in(spark_session(settings), query, settings.warehouse_dir, output)


def run_in(spark: SparkSession, query: str, warehouse: Path, output: Output, most_bytes: int | None = None) -> str:
    """The results of all statements of `query`, one after the other. Raises QueryFailed, also for a result over `most_bytes`."""
    parts = list(statements(query))
    if not parts:
        raise QueryFailed('the query is empty; try: sluice sql "SELECT * FROM system.serving.usage_hourly"')
    return "\n".join(_answer(spark, statement, warehouse, output, most_bytes) for statement in parts)


def statements(query: str) -> Iterator[str]:
    """The statements of `query` without their semicolons; empty ones and mere comments are left out."""
    blanked = _OPAQUE.sub(lambda m: " " * len(m.group()) if m.group()[:2] in ("--", "/*") else "x" * len(m.group()), query)
    start = 0
    for end in [*(m.start() for m in re.finditer(";", blanked)), len(query)]:
        if blanked[start:end].strip():
            yield query[start:end].strip()
        start = end + 1


def _answer(spark: SparkSession, statement: str, warehouse: Path, output: Output, most_bytes: int | None) -> str:
    try:
        rows = spark.sql(statement)
        if not rows.columns:
            return "[]" if output == "json" else ""
        _compile_where_it_pays(spark, rows)
        # By position: a result may have the same name twice.
        rows = rows.toDF(*_different(rows.columns))
        if most_bytes is not None:
            _refuse_large(rows, most_bytes)
        return _as_json(rows) if output == "json" else _as_text(rows, output)
    except (PySparkException, Py4JJavaError) as exc:
        raise QueryFailed(_explained(exc, warehouse)) from None


def _compile_where_it_pays(spark: SparkSession, rows: DataFrame) -> None:
    """Have code compiled for `rows` and their plan made anew on the way, or not, as with micro-batches, where little is read.

    For the session, so that queries at the same time may get each other's choice: it changes how long they take, never what they find.
    """
    try:
        leaves = rows._jdf.queryExecution().analyzed().collectLeaves()
        little = sum(leaves.apply(n).stats().sizeInBytes() for n in range(leaves.size())) < LITTLE_BYTES
    except Py4JJavaError:
        # Not every source knows its size.
        little = False
    for key, value in MICRO_BATCHES.items():
        if little:
            spark.conf.set(key, value)
        else:
            spark.conf.unset(key)


def _refuse_large(rows: DataFrame, most_bytes: int) -> None:
    """Spark's own bound counts what is compressed: what fits there can fill the heap when it is read."""
    size = rows.agg(F.sum(F.octet_length(_json(rows)))).collect()[0][0] or 0
    if size > most_bytes:
        mib = 1024 * 1024
        raise QueryFailed(
            f"the result has {size / mib:,.0f} MiB, and the table job hands out {most_bytes / mib:,.0f} at most: ask for less, "
            "or use a session of your own (`from jobs.session import spark_session`)"
        )


def _json(rows: DataFrame) -> Column:
    columns = [F.col(f"`{name.replace('`', '``')}`") for name in rows.columns]
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})


def _different(names: list[str]) -> list[str]:
    return [name if name not in names[:i] else f"{name}_{i + 1}" for i, name in enumerate(names)]


def _as_json(rows: DataFrame) -> str:
    return "[" + ",\n ".join(row[0] for row in rows.select(_json(rows)).collect()) + "]"


def _as_text(rows: DataFrame, output: Output) -> str:
    # Text is made by Spark: in Python, times would turn into the machine's zone.
    cells = rows.select(*[F.col(f"`{name.replace('`', '``')}`").cast("string") for name in rows.columns]).collect()
    stream = io.StringIO()
    if output == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in cells)
        return stream.getvalue().rstrip("\n")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, kind in rows.dtypes:
        table.add_column(
            name, justify="right" if kind in ("int", "bigint", "double") or kind.startswith("decimal") else "left", no_wrap=True
        )
    for row in cells:
        table.add_row(*("NULL" if cell is None else _plain(cell) for cell in row))
    # Wide enough that nothing is cut; whoever reads it chooses what to select.
    Console(file=stream, width=100_000, color_system=None, markup=False, emoji=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _plain(cell: str) -> str:
    """Nothing in a cell may steer the terminal: whatever was asked or answered may stand there."""
    return "".join(c if c.isprintable() else " " for c in cell)


def _explained(exc: PySparkException | Py4JJavaError, warehouse: Path) -> str:
    condition = exc.getCondition() if isinstance(exc, PySparkException) else None
    if condition in ("TABLE_OR_VIEW_NOT_FOUND", "REQUIRES_SINGLE_PART_NAMESPACE", "SCHEMA_NOT_FOUND"):
        quoted = re.findall(r"`[^`]+`(?:\.`[^`]+`)*", str(exc))
        name = (quoted[0] if quoted else "").replace("`", "")
        known = _known_tables(warehouse)
        near = difflib.get_close_matches(name, known, 3, 0.5) or known[:5]
        there = f"did you mean {', '.join(near)}?" if near else f"there are no tables in {warehouse} yet"
        return f"there is no table {name}; {there}"
    return reason(exc)


def _known_tables(warehouse: Path) -> list[str]:
    return [".".join(name) for name in tables_in(warehouse)]
