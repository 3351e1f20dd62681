"""A figure of the guardrails' table: what was measured, of how many, and what it should be; and the table itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One figure: what it is of, of how many, and what it should be (`at_least`, or else at most)."""

    what: str
    value: float
    unit: str
    n: int
    goal: float | None = None
    at_least: bool = True
    remark: str = ""

    @property
    def good(self) -> bool:
        """Is it as it should be."""
        return self.goal is None or (self.value >= self.goal if self.at_least else self.value <= self.goal)


def show(sections: Iterable[Iterable[Row]]) -> None:
    """Print the table, a section for each part."""
    table = Table()
    for heading, justify in (("", "left"), ("measured", "right"), ("n", "right"), ("wanted", "right"), ("", "left"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for section in sections:
        for row in section:
            goal = "" if row.goal is None else f"{'≥' if row.at_least else '≤'} {row.goal:g}"
            value = f"{row.value:,.0f}" if row.value >= 1_000 or row.unit == "found" else f"{row.value:.3f}"
            kept = "" if row.goal is None else "yes" if row.good else "NO"
            table.add_row(row.what, f"{value} {row.unit}".rstrip(), f"{row.n:,}", goal, kept, row.remark)
        table.add_section()
    Console(width=160).print(table)
