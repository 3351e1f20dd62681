"""Which tables are written next, where more wait than can be written at once: those whose rows have waited longest, all rows together.

A commit costs the same for one row as for a thousand, so a busy table is worth one more often than a quiet one. Rows times waiting
time says by how much: a table with a hundred times the rows gets ten times the commits, which makes the mean row wait least. Since waiting
grows, none is forgotten. Pure: no Spark, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from jobs.landed import Span

T = TypeVar("T")


@dataclass
class Work:
    """What one table has still to be given: what landed after batch `after`, up to `newest`. `span` None: only the table is to be made.

    `rows` have waited since `waits_s`; after a failure (`error`, since `since_s`, told once) it is due again at `due_s`. Times in seconds.
    """

    after: int
    waits_s: float
    span: Span | None = None
    rows: int = 0
    newest: int = -1
    tries: int = 0
    due_s: float = 0.0
    error: str | None = None
    since_s: float = 0.0

    def add(self, span: Span) -> None:
        """More rows wait."""
        self.rows += span.rows
        if self.span is None:
            self.span = Span(span.min_ms, span.max_ms, set(span.hours), span.appended_ms)
        else:
            self.span.add(span)

    def waiting(self, now_s: float) -> float:
        """How long its rows have waited, all together; making a table counts as a row."""
        return max(self.rows, 1) * (now_s - self.waits_s)


def next_turns(due: Iterable[tuple[T, Work]], now_s: float, at_once: int) -> list[T]:
    """Up to `at_once` of them, the most urgent first."""
    return [name for name, _ in sorted(due, key=lambda each: each[1].waiting(now_s), reverse=True)[:at_once]]
