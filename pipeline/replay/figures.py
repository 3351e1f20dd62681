"""All pairs of a replay as the figures of the comparison: what the terminal and the page show. Pure; never fails.

Latencies and similarity are of answers that were delivered, tokens and costs of all requests. A pair that has no price on one side is in
neither side's cost, so that the two sums stay comparable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

Pair = dict[str, Any]
BEFORE, AFTER = "original_", ""
QUANTILES = (5, 25, 50, 75, 95)
# So many of the pairs that differ most are shown; the table has them all.
SHOWN = 20


@dataclass(frozen=True)
class Side:
    """One side of the comparison. `latency_ms`: by percentile, empty where nothing was delivered."""

    statuses: dict[int, int]
    delivered: int
    latency_ms: dict[int, float]
    input_tokens: int
    output_tokens: int
    cost: Decimal


@dataclass(frozen=True)
class Figures:
    """`unpriced`: pairs that are in no cost. `similarity`: quantiles by percentile; `same`: pairs whose texts are the same.

    `findings`: of each finding of a guardrail, on how many requests it was there then, is there now, was won and was lost.
    `masked`: pairs whose original was masked before it was logged, which the second endpoint never saw unmasked.
    """

    pairs: int
    before: Side
    after: Side
    other_status: int
    unpriced: int
    compared: int
    same: int
    similarity: dict[int, float]
    findings: dict[str, tuple[int, int, int, int]]
    other_findings: int
    masked: int
    least_similar: list[Pair] = field(default_factory=list)
    changed: list[Pair] = field(default_factory=list)


def figures(pairs: Sequence[Pair]) -> Figures:
    """The figures of these rows of `system.serving.replays`."""
    texts = [pair for pair in pairs if pair["similarity"] is not None]
    priced = [pair for pair in pairs if pair["cost"] is not None and pair["original_cost"] is not None]
    changed = [pair for pair in pairs if pair["status_code"] != pair["original_status_code"]]
    return Figures(
        pairs=len(pairs),
        before=_side(pairs, priced, BEFORE),
        after=_side(pairs, priced, AFTER),
        other_status=len(changed),
        unpriced=len(pairs) - len(priced),
        compared=len(texts),
        same=_count(texts, lambda pair: pair["similarity"] == 1),
        similarity=percentiles([pair["similarity"] for pair in texts], QUANTILES),
        findings=_findings(pairs),
        other_findings=_count(pairs, lambda pair: set(pair["guardrails"]) != set(pair["original_guardrails"])),
        masked=_count(pairs, lambda pair: bool(pair["original_masked"])),
        least_similar=sorted((p for p in texts if p["similarity"] < 1), key=lambda pair: pair["similarity"])[:SHOWN],
        changed=changed[:SHOWN],
    )


def summary(figures: Figures) -> list[tuple[str, str, str]]:
    """The figures that both sides have, as texts: their name, then, now."""
    both = (figures.before, figures.after)

    def line(name: str, told: Callable[[Side], str]) -> tuple[str, str, str]:
        return name, told(both[0]), told(both[1])

    codes = sorted({code for side in both for code in side.statuses})
    return [
        *[(f"status {code}", f"{both[0].statuses.get(code, 0):,}", f"{both[1].statuses.get(code, 0):,}") for code in codes],
        line("latency p50, ms", lambda side: _ms(side, 50)),
        line("latency p95, ms", lambda side: _ms(side, 95)),
        line("input tokens", lambda side: f"{side.input_tokens:,}"),
        line("output tokens", lambda side: f"{side.output_tokens:,}"),
        line("cost", lambda side: f"{side.cost:,.6f}" if figures.unpriced < figures.pairs else "-"),
    ]


def _ms(side: Side, percentile: int) -> str:
    return f"{side.latency_ms[percentile]:,.0f}" if side.latency_ms else "-"


def percentiles(values: Sequence[float], wanted: Sequence[int]) -> dict[int, float]:
    """The percentiles of `values`; none where there are no values."""
    if not values:
        return {}
    return {p: float(v) for p, v in zip(wanted, np.percentile(np.array(values, dtype=float), list(wanted)), strict=True)}


def latencies(pairs: Sequence[Pair], side: str, wanted: Sequence[int]) -> dict[int, float]:
    """Percentiles of how long the delivered answers of a side (BEFORE, AFTER) took, in ms."""
    delivered = [pair[f"{side}execution_time_ms"] for pair in pairs if pair[f"{side}status_code"] == 200]
    return percentiles([ms for ms in delivered if ms is not None], wanted)


def _side(pairs: Sequence[Pair], priced: Sequence[Pair], side: str) -> Side:
    statuses = Counter(pair[f"{side}status_code"] for pair in pairs)
    return Side(
        statuses=dict(sorted(statuses.items())),
        delivered=statuses[200],
        latency_ms=latencies(pairs, side, (50, 95)),
        input_tokens=sum(pair[f"{side}input_tokens"] or 0 for pair in pairs),
        output_tokens=sum(pair[f"{side}output_tokens"] or 0 for pair in pairs),
        cost=sum((pair[f"{side}cost"] for pair in priced), Decimal(0)),
    )


def _findings(pairs: Sequence[Pair]) -> dict[str, tuple[int, int, int, int]]:
    found: dict[str, list[int]] = {}
    for pair in pairs:
        before, after = set(pair["original_guardrails"]), set(pair["guardrails"])
        for name in before | after:
            counts = found.setdefault(name, [0, 0, 0, 0])
            for place, there in enumerate((name in before, name in after, name in after - before, name in before - after)):
                counts[place] += there
    return {name: (c[0], c[1], c[2], c[3]) for name, c in sorted(found.items())}


def _count(pairs: Sequence[Pair], holds: Callable[[Pair], bool]) -> int:
    return sum(1 for pair in pairs if holds(pair))
