"""What a batch that lands holds, as far as must be known of it: which records are copies, and which tables it concerns. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pyspark.sql import Row

from pipeline.topics import DAY_MS, HOUR_MS

KIND_RECORD, KIND_ENDPOINT, KIND_DEAD_LETTER = "record", "endpoint", "dead_letter"
Place = tuple[str, int, int]
TableName = tuple[str, str, str]


class Fact(NamedTuple):
    """What must be known of one record before its batch lands. A Row would be slower by far to ask: there may be tens of thousands."""

    topic: str
    partition: int
    offset: int
    appended_ms: int
    kind: str
    request_id: str
    timestamp_ms: int
    table: TableName | None
    usage_tracking: bool
    assessed: bool
    key: bytes | None
    value: bytes | None


class Known(NamedTuple):
    """A request that has landed."""

    request_id: str
    timestamp_ms: int


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

    def note(self, fact: Fact) -> None:
        """Widen to hold one landed record too."""
        self.rows += 1
        self.min_ms, self.max_ms = min(self.min_ms, fact.timestamp_ms), max(self.max_ms, fact.timestamp_ms)
        self.appended_ms = min(self.appended_ms, fact.appended_ms)
        self.hours.add(fact.timestamp_ms // HOUR_MS)

    @classmethod
    def of(cls, fact: Fact) -> Span:
        """That of one landed record."""
        return cls(fact.timestamp_ms, fact.timestamp_ms, {fact.timestamp_ms // HOUR_MS}, fact.appended_ms, rows=1)


@dataclass
class Landed:
    """What a batch put into the landing table, as far as the spreading must know. Keys of `tables`: catalog, schema, prefix."""

    seq: int
    files: list[str] = field(default_factory=list)
    rows: int = 0
    tables: dict[TableName, Span] = field(default_factory=dict)
    assessed: dict[TableName, Span] = field(default_factory=dict)
    usage: Span | None = None
    dead_letters: int = 0
    endpoints: int = 0

    def count(self, fact: Fact) -> None:
        """Take note of one landed row."""
        self.rows += 1
        if fact.kind != KIND_RECORD:
            self.dead_letters += fact.kind == KIND_DEAD_LETTER
            self.endpoints += fact.kind == KIND_ENDPOINT
            return
        if fact.table is not None:
            _note(self.tables, fact.table, fact)
            if fact.assessed:
                _note(self.assessed, fact.table, fact)
        if fact.usage_tracking:
            if self.usage is None:
                self.usage = Span.of(fact)
            else:
                self.usage.note(fact)


def _note(spans: dict[TableName, Span], table: TableName, fact: Fact) -> None:
    if (span := spans.get(table)) is not None:
        span.note(fact)
    else:
        spans[table] = Span.of(fact)


def copies_among(records: Iterable[Fact | Row], known: Iterable[Known]) -> set[Place]:
    """The places of those `records` that are copies: in the log's order, within 24 hours of a record of that id that counts.

    `known` are the ids and times that count already. The order is by append time, then partition, then offset.
    """
    counting: dict[str, list[int]] = {}
    for row in known:
        counting.setdefault(row.request_id, []).append(row.timestamp_ms)
    copies = set()
    for record in sorted(records, key=lambda r: (r.appended_ms, r.partition, r.offset)):
        times = counting.setdefault(record.request_id, [])
        if any(abs(record.timestamp_ms - t) < DAY_MS for t in times):
            copies.add(place_of(record))
        else:
            times.append(record.timestamp_ms)
    return copies


def place_of(row: Fact | Row) -> Place:
    """Where it is in Kafka."""
    return row.topic, row.partition, row.offset
