"""The dashboard's page: one HTML file that stands alone, drawn with plotly from the figures of dashboard.py.

Needs no network: script and style are in the file. Follows the reader's choice of a light or dark theme, and is laid out anew on a narrow
screen. Whatever users have named (endpoints, tags, themselves) is escaped. All times are UTC. Knows no Spark.
"""

from __future__ import annotations

import html
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from jobs.dashboard import Figures, Rows

TEMPLATE = Path(__file__).parent / "dashboard.html"
# Okabe and Ito's colours, told apart by colour-blind readers, on light and on dark.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A8F98"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
# The largest bars of a chart; the others are summed up.
MOST_BARS = 8
MOST_TAGS = 4
HEIGHT_PX = 280


def page(figures: Figures, made_at: datetime) -> str:
    """The whole file's text."""
    tables = figures.tables
    hourly, unpriced = list(reversed(tables["hourly"])), tables["unpriced"][0]["requests"]
    fill = {
        "period": f"today and the {figures.days} days before" if figures.days > 1 else "today and yesterday",
        "made_at": f"{made_at:%Y-%m-%d %H:%M}",
        "tiles": _tiles(hourly, tables["endpoints"]),
        "charts": "".join(_charts(hourly, tables)) if hourly else '<p class="empty">No requests in this period.</p>',
        "endpoints": _table(tables["endpoints"], ENDPOINT_COLUMNS),
        "users": _table(tables["users"], USER_COLUMNS),
        "reviews": _table(tables["reviews"], REVIEW_COLUMNS, "Nothing was blocked or masked."),
        "sources": f"{figures.inference_tables} inference tables",
        "unpriced": f" {unpriced:,} requests have no price and are in no cost." if unpriced else "",
        "plotly": get_plotlyjs(),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(fill)


def _tiles(hourly: Rows, endpoints: Rows) -> str:
    names = ("requests", "total_tokens", "errors", "rate_limited", "blocked", "served", "fallbacks")
    total = {name: sum(row[name] for row in hourly) for name in names}
    cost = sum((row["cost"] or Decimal(0) for row in endpoints), Decimal(0))
    tiles = [
        ("Requests", f"{total['requests']:,}"),
        ("Tokens", _short(total["total_tokens"])),
        ("Cost", _money(cost)),
        ("Errors", _share(total["errors"], total["requests"])),
        ("Rate-limited", f"{total['rate_limited']:,}"),
        ("Blocked", f"{total['blocked']:,}"),
        ("Fallback share", _share(total["fallbacks"], total["served"])),
    ]
    return "".join(f'<div class="tile"><dt>{name}</dt><dd>{value}</dd></div>' for name, value in tiles)


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
        _chart("Requests per hour", "requests", _stack(hours, requests)),
        _chart("Tokens per hour", "tokens", _stack(hours, tokens)),
        _chart("Latency", "milliseconds", _lines(hours, latency)),
        _chart("Error rate", "% of requests", _lines(hours, [("status 400 and above", column("error_rate_pct"), RED)])),
    ]
    charts += _tag_charts(tables["tags"])
    entities = [(f"{row['endpoint_name']}: {row['served_entity_name']}", row["answers"]) for row in tables["entities"]]
    charts.append(_chart("Answers by served entity", "answers", _bars(entities, GREEN)))
    charts.append(_chart("Top users", "requests", _bars([(row["requester"], row["requests"]) for row in tables["users"]], BLUE)))
    findings = [
        (f"{row['assessment_type']} {row['direction']}: {row['assessment_result'].lower()}", row["findings"]) for row in tables["findings"]
    ]
    if findings:
        charts.append(_chart("Guardrail findings", "findings", _bars(findings, PURPLE)))
    return charts


def _tag_charts(tags: Rows) -> list[str]:
    by_tag: dict[str, Rows] = {}
    for row in tags:
        by_tag.setdefault(row["tag"], []).append(row)
    largest = sorted(by_tag, key=lambda tag: -sum(row["cost"] or 0 for row in by_tag[tag]))[:MOST_TAGS]
    charts = []
    for place, tag in enumerate(largest):
        bars = [(row["value"] or "(no value)", float(row["cost"] or 0)) for row in by_tag[tag]]
        charts.append(_chart(f"Cost by {tag}", "cost", _bars(bars, PALETTE[place % len(PALETTE)])))
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


def _bars(values: list[tuple[str, float]], colour: str) -> go.Figure:
    ordered = sorted(values, key=lambda pair: -pair[1])
    shown, rest = ordered[:MOST_BARS], ordered[MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(value for _, value in rest)))
    names = [_label(name) for name, _ in reversed(shown)]
    figure = go.Figure(
        go.Bar(x=[value for _, value in reversed(shown)], y=list(range(len(names))), orientation="h", marker_color=colour,
               customdata=names, hovertemplate="%{customdata}: %{x}<extra></extra>")
    )  # fmt: skip
    # By number, so that two with the same shortened name stay two bars.
    return figure.update_yaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, automargin=True).update_layout(
        bargap=0.3
    )


def _label(name: str) -> str:
    return html.escape(name if len(name) <= 28 else name[:27] + "…")


def _chart(title: str, unit: str, figure: go.Figure) -> str:
    horizontal = any(getattr(trace, "orientation", None) == "h" for trace in figure.data)
    figure.update_layout(
        height=HEIGHT_PX, margin={"l": 8, "r": 12, "t": 8, "b": 8}, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12}, showlegend=len(figure.data) > 1,
        hovermode="closest" if horizontal else "x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"}, dragmode=False, template="none",
    )  # fmt: skip
    figure.update_xaxes(automargin=True, fixedrange=True, title={"text": unit, "standoff": 8} if horizontal else None, nticks=6)
    figure.update_yaxes(automargin=True, fixedrange=True, rangemode="tozero")
    if not horizontal:
        figure.update_yaxes(title={"text": unit, "standoff": 8})
        # Below the lowest number of the other axis, and short enough for a phone.
        figure.update_xaxes(ticklabelstandoff=8, tickformat="%H:%M<br>%-d %b")
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f'<section class="chart"><h2>{html.escape(title)}</h2>{drawn}</section>'


Column = tuple[str, str, str]
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
    ("Guardrail", "assessment_type", "text"), ("Direction", "direction", "text"), ("Result", "assessment_result", "text"),
    ("Details", "assessment_details", "text"), ("Request id", "request_id", "text"),
]  # fmt: skip


def _table(rows: Rows, columns: list[Column], empty: str = "Nothing yet.") -> str:
    if not rows:
        return f'<p class="empty">{empty}</p>'
    head = "".join(f'<th scope="col" class="{kind}">{heading}</th>' for heading, _, kind in columns)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}" data-name="{heading}">{_cell(row[key], kind)}</td>' for heading, key, kind in columns)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return "–"
    if kind == "count":
        return f"{value:,.0f}"
    return _money(value) if kind == "money" else html.escape(str(value))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _money(value: Decimal) -> str:
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.2g}" if value >= Decimal("0.0001") else f"{value:.1e}"


def _short(value: int) -> str:
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (10_000, "k")):
        if value >= size:
            return f"{value / (1_000 if unit == 'k' else size):.1f}{unit}"
    return f"{value:,}"
