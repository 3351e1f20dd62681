"""The dashboard's page: one HTML file that stands alone, drawn with plotly from the figures of dashboard.py. All times are UTC.

Knows no Spark. page_parts.py has what it is made of.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go

from jobs.dashboard import Figures, Rows
from jobs.page_parts import (
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    PURPLE,
    RED,
    SKY,
    Column,
    bars,
    chart,
    listed,
    money,
    share,
    short,
    table,
    tiles,
    whole_page,
)

MOST_TAGS = 4


def page(figures: Figures, made_at: datetime) -> str:
    """The whole file's text."""
    tables = figures.tables
    hourly, unpriced = list(reversed(tables["hourly"])), tables["unpriced"][0]["requests"]
    period = f"today and the {figures.days} days before" if figures.days > 1 else "today and yesterday"
    lists = [
        listed("Endpoints", table(tables["endpoints"], ENDPOINT_COLUMNS)),
        listed("Top users", table(tables["users"], USER_COLUMNS)),
        listed(
            "To review: what guardrails blocked or masked last", table(tables["reviews"], REVIEW_COLUMNS, "Nothing was blocked or masked.")
        ),
    ]
    return whole_page(
        title="AI gateway",
        about=f"Requests of {period}, all times UTC",
        made_at=made_at,
        tiles=_tiles(hourly, tables["endpoints"]),
        charts="".join(_charts(hourly, tables)) if hourly else '<p class="empty">No requests in this period.</p>',
        lists="".join(lists),
        notes=f"Requests are those of {figures.inference_tables} inference tables; tokens and cost by tag are those of endpoints with "
        "usage tracking." + (f" {unpriced:,} requests have no price and are in no cost." if unpriced else ""),
    )


def _tiles(hourly: Rows, endpoints: Rows) -> str:
    names = ("requests", "total_tokens", "errors", "rate_limited", "blocked", "served", "fallbacks")
    total = {name: sum(row[name] for row in hourly) for name in names}
    cost = sum((row["cost"] or Decimal(0) for row in endpoints), Decimal(0))
    figures = [
        ("Requests", f"{total['requests']:,}"),
        ("Tokens", short(total["total_tokens"])),
        ("Cost", money(cost)),
        ("Errors", share(total["errors"], total["requests"])),
        ("Rate-limited", f"{total['rate_limited']:,}"),
        ("Blocked", f"{total['blocked']:,}"),
        ("Fallback share", share(total["fallbacks"], total["served"])),
    ]
    return tiles(figures)


def _charts(hourly: Rows, tables: dict[str, Rows]) -> list[str]:
    hours = [row["hour"] for row in hourly]

    def column(name: str) -> list[Any]:
        return [row[name] for row in hourly]

    ok = [row["requests"] - row["errors"] for row in hourly]
    other = [row["errors"] - row["rate_limited"] - row["blocked"] for row in hourly]
    requests = [
        ("answered", ok, BLUE),
        ("rate-limited", column("rate_limited"), ORANGE),
        ("blocked", column("blocked"), PURPLE),
        ("other errors", other, RED),
    ]
    tokens = [("input", column("input_tokens"), SKY), ("output", column("output_tokens"), BLUE)]
    latency = [("average", column("avg_latency_ms"), SKY), ("95th percentile", column("p95_latency_ms"), RED)]
    charts = [
        chart("Requests per hour", "requests", _stack(hours, requests)),
        chart("Tokens per hour", "tokens", _stack(hours, tokens)),
        chart("Latency", "milliseconds", _lines(hours, latency)),
        chart("Error rate", "% of requests", _lines(hours, [("status 400 and above", column("error_rate_pct"), RED)])),
    ]
    charts += _tag_charts(tables["tags"])
    entities = [(f"{row['endpoint_name']}: {row['served_entity_name']}", row["answers"]) for row in tables["entities"]]
    charts.append(chart("Answers by served entity", "answers", bars(entities, GREEN)))
    charts.append(chart("Top users", "requests", bars([(row["requester"], row["requests"]) for row in tables["users"]], BLUE)))
    findings = [
        (f"{row['assessment_type']} {row['direction']}: {row['assessment_result'].lower()}", row["findings"]) for row in tables["findings"]
    ]
    if findings:
        charts.append(chart("Guardrail findings", "findings", bars(findings, PURPLE)))
    return charts


def _tag_charts(tags: Rows) -> list[str]:
    by_tag: dict[str, Rows] = {}
    for row in tags:
        by_tag.setdefault(row["tag"], []).append(row)
    largest = sorted(by_tag, key=lambda tag: -sum(row["cost"] or 0 for row in by_tag[tag]))[:MOST_TAGS]
    charts = []
    for place, tag in enumerate(largest):
        costs = [(row["value"] or "(no value)", float(row["cost"] or 0)) for row in by_tag[tag]]
        charts.append(chart(f"Cost by {tag}", "cost", bars(costs, PALETTE[place % len(PALETTE)])))
    return charts


def _stack(hours: list[str], series: list[tuple[str, list[Any], str]]) -> go.Figure:
    figure = go.Figure([go.Bar(x=hours, y=values, name=name, marker_color=colour) for name, values, colour in series])
    return figure.update_layout(barmode="stack", bargap=0.1)


def _lines(hours: list[str], series: list[tuple[str, list[Any], str]]) -> go.Figure:
    # With markers, so that an hour between two hours without requests shows.
    return go.Figure(
        [
            go.Scatter(x=hours, y=values, name=name, mode="lines+markers", line_color=colour, marker_size=4)
            for name, values, colour in series
        ]
    )


# Heading, key, how it is written.
ENDPOINT_COLUMNS: list[Column] = [
    ("Endpoint", "endpoint_name", "text"), ("Requests", "requests", "count"), ("Input tokens", "input_tokens", "count"),
    ("Output tokens", "output_tokens", "count"), ("Average ms", "avg_latency_ms", "count"), ("p95 ms", "p95_latency_ms", "count"),
    ("Errors", "errors", "count"), ("Rate-limited", "rate_limited", "count"), ("Blocked", "blocked", "count"), ("Cost", "cost", "money"),
]  # fmt: skip
USER_COLUMNS: list[Column] = [
    ("User", "requester", "text"), ("Requests", "requests", "count"), ("Tokens", "total_tokens", "count"),
    ("Rate-limited", "rate_limited", "count"),
]  # fmt: skip
REVIEW_COLUMNS: list[Column] = [
    ("Time (UTC)", "time", "text"), ("Endpoint", "endpoint_name", "text"), ("User", "requester", "text"),
    ("Guardrail", "assessment_type", "word"), ("Direction", "direction", "word"), ("Result", "assessment_result", "word"),
    ("Details", "assessment_details", "text"), ("Request id", "request_id", "text"),
]  # fmt: skip
