"""Days after which a table's rows go, as the setting `retention` says; what no pattern of it names is kept for ever.

    main.logs.*=30,system.serving.endpoint_usage=400        the first pattern that fits a table's name counts

A whole day (UTC) at a time: first the table's own log takes note from when on rows are kept, then the older ones are deleted, so that
a crash in between leaves nothing to mend. That mark never goes back. Rows of before it are not written again (targets.py), whoever
sends them; hours of before it are frozen (rollup.py, costs.py), and the audit leaves them out. Fails with whatever Spark raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.delta import DeltaFolder
from pipeline.topics import DAY_MS

# The name under which a table's log keeps the mark, as it keeps the batches that a writer has reached.
MARK = "retention"
# What says when a row's request was, in the order of preference, and how it is read as milliseconds.
TIMES = {"timestamp_ms": F.col, "request_time": F.unix_millis, "hour": F.unix_millis}
# The landing table has a rule of its own (upkeep.py), and what is erased stays known.
INTERNAL = ("system", "internal")


@dataclass(frozen=True)
class Rule:
    """Rows of the tables whose three-part name fits `pattern` are kept for `days` whole days."""

    pattern: str
    days: int


def rules(retention: str) -> list[Rule]:
    """The setting's rules, in its order."""
    pairs = [rule.split("=") for rule in retention.split(",") if rule]
    return [Rule(pattern, int(days)) for pattern, days in pairs]


def days_of(name: tuple[str, str, str], kept: list[Rule]) -> int | None:
    """How long this table's rows are kept; None: for ever."""
    if name[:2] == INTERNAL:
        return None
    return next((rule.days for rule in kept if fnmatchcase(".".join(name), rule.pattern)), None)


def time_column(schema: StructType) -> str | None:
    """The column that says when a row's request was; None where there is none."""
    return next((name for name in TIMES if name in schema.fieldNames()), None)


def kept_from_ms(table: DeltaFolder) -> int:
    """Rows of before are gone for good, by the table's own log (epoch milliseconds); 0 where none are."""
    return max(table.transaction(MARK), 0) if table.exists() else 0


def keep(table: DeltaFolder, days: int, now_ms: int) -> None:
    """Delete what is older than `days` whole days. A table whose rows have no time is left alone."""
    rows = table.read()
    name = time_column(rows.schema)
    if name is None:
        return
    cut_ms = (now_ms // DAY_MS - days) * DAY_MS
    if cut_ms > kept_from_ms(table):
        table.append(rows.limit(0), MARK, cut_ms)
    table.delete(F.col(name) < _literal(name, kept_from_ms(table)))


def _literal(name: str, ms: int) -> Column:
    return F.lit(ms) if name == "timestamp_ms" else F.timestamp_millis(F.lit(ms))
