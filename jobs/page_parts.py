"""What the pages are made of: tiles, charts, tables, and the shell around them (page.html) that needs no network.

A page is one HTML file that stands alone: script and style are in it. It follows the reader's choice of a light or dark theme, and is laid
out anew on a narrow screen. Whatever users have named is escaped here, once. Knows no Spark.
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

SHELL = Path(__file__).parent / "page.html"
# Okabe and Ito's colours, told apart by colour-blind readers, on light and on dark.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A8F98"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
# The largest bars of a chart; the others are summed up.
MOST_BARS = 8
HEIGHT_PX = 280
Column = tuple[str, str, str]


def whole_page(*, title: str, about: str, made_at: datetime, tiles: str, charts: str, lists: str, notes: str) -> str:
    """The whole file's text. `title`, `about` and `notes` are text, the others HTML of the functions below."""
    fill = {
        "title": html.escape(title), "about": html.escape(about), "made_at": f"{made_at:%Y-%m-%d %H:%M}", "tiles": tiles, "charts": charts,
        "lists": lists, "notes": html.escape(notes), "plotly": get_plotlyjs(),
    }  # fmt: skip
    return Template(SHELL.read_text(encoding="utf-8")).substitute(fill)


def tiles(pairs: list[tuple[str, str]]) -> str:
    """The figures at the top."""
    return "".join(f'<div class="tile"><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>' for name, value in pairs)


def listed(heading: str, inner: str) -> str:
    """A table under its heading."""
    return f'<section class="list"><h2>{html.escape(heading)}</h2>{inner}</section>'


def bars(values: list[tuple[str, float]], colour: str) -> go.Figure:
    """Bars from left to right, the largest on top."""
    ordered = sorted(values, key=lambda pair: -pair[1])
    shown, rest = ordered[:MOST_BARS], ordered[MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(value for _, value in rest)))
    names = [label(name) for name, _ in reversed(shown)]
    figure = go.Figure(
        go.Bar(x=[value for _, value in reversed(shown)], y=list(range(len(names))), orientation="h", marker_color=colour,
               customdata=names, hovertemplate="%{customdata}: %{x}<extra></extra>")
    )  # fmt: skip
    # By number, so that two with the same shortened name stay two bars.
    return figure.update_yaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, automargin=True).update_layout(
        bargap=0.3
    )


def label(name: str) -> str:
    """A name, escaped and short enough for an axis."""
    return html.escape(name if len(name) <= 28 else name[:27] + "…")


def chart(title: str, unit: str, figure: go.Figure, across: str | None = None) -> str:
    """A chart of `unit`, over time unless `across` says what its horizontal axis is."""
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
        figure.update_xaxes(ticklabelstandoff=8)
        if across is None:
            figure.update_xaxes(tickformat="%H:%M<br>%-d %b")
        else:
            figure.update_xaxes(title={"text": across, "standoff": 8})
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f'<section class="chart"><h2>{html.escape(title)}</h2>{drawn}</section>'


def table(rows: list[dict[str, Any]], columns: list[Column], empty: str = "Nothing yet.") -> str:
    """Rows as a table; a column is its heading, the key of its cells, and how they are written: text, word
    (never broken), count, money, figure (as it is).
    """
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
    return money(value) if kind == "money" else html.escape(str(value))


def share(part: int, whole: int) -> str:
    """A percentage."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def money(value: Decimal) -> str:
    """A sum of money with as many digits as say something."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.2g}" if value >= Decimal("0.0001") else f"{value:.1e}"


def short(value: int) -> str:
    """A number that fits into a tile."""
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (10_000, "k")):
        if value >= size:
            return f"{value / (1_000 if unit == 'k' else size):.1f}{unit}"
    return f"{value:,}"
