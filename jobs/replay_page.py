"""A replay's page: the two endpoints beside each other, on one HTML file that stands alone. All times are UTC.

Drawn from the figures and pairs of a replay; no prompt and no answer stands on it, only request ids. Knows no Spark. page_parts.py has what
it is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go

from jobs.page_parts import BLUE, GREEN, ORANGE, SKY, Column, chart, listed, money, share, short, table, tiles, whole_page
from pipeline.replay.figures import AFTER, BEFORE, Figures, Pair, Side, latencies, summary
from pipeline.replay.folder import Plan

THEN, NOW = "then", "now"
COLOURS = {THEN: SKY, NOW: BLUE}
# Points of the curves of latency; the slowest hundredth would press all else flat.
CURVE = range(1, 100)
BUCKETS = 10

SUMMARY_COLUMNS: list[Column] = [("Figure", "figure", "text"), ("Then", "then", "figure"), ("Now", "now", "figure")]
FINDING_COLUMNS: list[Column] = [
    ("Finding", "finding", "text"), ("Then", "then", "count"), ("Now", "now", "count"), ("Only now", "won", "count"),
    ("Only then", "lost", "count"),
]  # fmt: skip
SIMILAR_COLUMNS: list[Column] = [
    ("Request id", "replay_of", "text"), ("Replayed as", "request_id", "text"), ("Similarity", "shown", "text"),
    ("Output tokens then", "original_output_tokens", "count"), ("Now", "output_tokens", "count"),
]  # fmt: skip
CHANGED_COLUMNS: list[Column] = [
    ("Request id", "replay_of", "text"), ("Replayed as", "request_id", "text"), ("Status then", "original_status_code", "count"),
    ("Now", "status_code", "count"), ("Error now", "error_code", "text"),
]  # fmt: skip


def page(plan: Plan, figures: Figures, pairs: Sequence[Pair], made_at: datetime) -> str:
    """The whole file's text."""
    rows = [{"figure": name, "then": then, "now": now} for name, then, now in summary(figures)]
    findings = [
        {"finding": name, "then": then, "now": now, "won": won, "lost": lost} for name, (then, now, won, lost) in figures.findings.items()
    ]
    similar = [{**pair, "shown": f"{pair['similarity']:.3f}"} for pair in figures.least_similar]
    lists = [
        listed("Then and now", table(rows, SUMMARY_COLUMNS)),
        listed("What guardrails found", table(findings, FINDING_COLUMNS, "Nothing, then or now.")),
        listed("Requests with another status now", table(figures.changed, CHANGED_COLUMNS, "None.")),
        listed("The least similar answers", table(similar, SIMILAR_COLUMNS, "All answers are the same.")),
    ]
    return whole_page(
        title=f"Replay {plan.replay_id}",
        about=f"{figures.pairs:,} requests of {plan.table}, then, and now through {plan.endpoint}",
        made_at=made_at,
        tiles=tiles(_tiles(figures)),
        charts="".join(_charts(figures, pairs)),
        lists="".join(lists),
        notes=" ".join(_notes(plan, figures)),
    )


def _tiles(figures: Figures) -> list[tuple[str, str]]:
    median = figures.similarity.get(50)
    return [
        ("Requests", f"{figures.pairs:,}"),
        ("Answered now", share(figures.after.delivered, figures.pairs)),
        ("Other status", f"{figures.other_status:,}"),
        ("Median latency", _change(figures.before.latency_ms.get(50), figures.after.latency_ms.get(50))),
        ("Output tokens", short(figures.after.output_tokens)),
        ("Cost", money(figures.after.cost)),
        ("Median similarity", "–" if median is None else f"{median:.2f}"),
        ("Other findings", f"{figures.other_findings:,}"),
    ]


def _change(before: float | None, after: float | None) -> str:
    return "–" if not before or after is None else f"{100 * (after / before - 1):+.0f} %"


def _charts(figures: Figures, pairs: Sequence[Pair]) -> list[str]:
    sides = {THEN: figures.before, NOW: figures.after}
    return [
        chart("Status", "requests", _statuses(sides), "status"),
        chart("Latency of delivered answers", "milliseconds", _latencies(pairs), "share of answers, %"),
        chart("Tokens", "tokens", _tokens(sides), ""),
        chart("Similarity of the answers' texts", "answers", _similarities(pairs), "from 0, nothing in common, to 1, the same"),
    ]


def _statuses(sides: dict[str, Side]) -> go.Figure:
    codes = sorted({code for side in sides.values() for code in side.statuses})
    names = [str(code) for code in codes]
    drawn = [
        go.Bar(x=names, y=[side.statuses.get(code, 0) for code in codes], name=name, marker_color=COLOURS[name])
        for name, side in sides.items()
    ]
    return go.Figure(drawn).update_layout(bargap=0.3).update_xaxes(type="category")


def _latencies(pairs: Sequence[Pair]) -> go.Figure:
    figure = go.Figure()
    for name, side in ((THEN, BEFORE), (NOW, AFTER)):
        if curve := latencies(pairs, side, CURVE):
            x, y = list(curve), list(curve.values())
            figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="lines", line_color=COLOURS[name]))
    return figure


def _tokens(sides: dict[str, Side]) -> go.Figure:
    drawn = [
        go.Bar(x=list(sides), y=[getattr(side, f"{kind}_tokens") for side in sides.values()], name=kind, marker_color=colour)
        for kind, colour in (("input", GREEN), ("output", ORANGE))
    ]
    return go.Figure(drawn).update_layout(barmode="stack", bargap=0.5).update_xaxes(type="category")


def _similarities(pairs: Sequence[Pair]) -> go.Figure:
    values = [pair["similarity"] for pair in pairs if pair["similarity"] is not None]
    counts = [0] * (BUCKETS + 1)
    for value in values:
        # What is the same has a bar of its own.
        counts[int(value * BUCKETS)] += 1
    names = [f"{n / BUCKETS:.1f}" for n in range(BUCKETS + 1)]
    return go.Figure(go.Bar(x=names, y=counts, marker_color=BLUE, name="answers")).update_layout(bargap=0.1).update_xaxes(type="category")


def _notes(plan: Plan, figures: Figures) -> list[str]:
    notes = [
        "Latency is the gateway's, from taking the request to the answer. Similarity is the share of characters that stay when one text is "
        "turned into the other; it knows nothing of meaning. Both sides are priced at the list prices of today.",
        *[f"{count:,} rows {why} were left out." for why, count in plan.skipped.items()],
    ]
    if figures.unpriced:
        notes.append(f"{figures.unpriced:,} requests have no price on one side and are in no cost.")
    if figures.masked:
        notes.append(f"{figures.masked:,} requests were masked before they were logged: the endpoint never saw what was masked.")
    return notes
