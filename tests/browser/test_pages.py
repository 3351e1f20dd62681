"""The dashboard and the page of a replay in a browser, on a phone and on a desk, light and dark: nothing overlaps, is cut off or loaded.

Debian's Chromium, without a window. `SLUICE_SCREENSHOTS=FOLDER` keeps a picture of each for people to look at.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from jobs import replay_page
from jobs.dashboard import Figures
from jobs.dashboard_page import page
from pipeline.replay.figures import figures
from pipeline.replay.folder import Plan

pytestmark = pytest.mark.timeout(180)

PHONE, DESK = (390, 844), (1280, 900)
MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)
Rows = list[dict[str, Any]]

# Two texts whose boxes share more than a pixel; what is hidden or empty has no box.
OVERLAPS = """
() => {
  const found = [];
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    const texts = [...chart.querySelectorAll("text")].filter(t => t.textContent.trim() && t.getBoundingClientRect().width > 0);
    for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
      const a = texts[i].getBoundingClientRect(), b = texts[j].getBoundingClientRect();
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 1) found.push(texts[i].textContent + " / " + texts[j].textContent);
    }
  }
  return found;
}
"""
# Texts of a chart that stick out of it, and cells whose text does not fit.
CUT_OFF = """
() => {
  const found = [];
  for (const chart of document.querySelectorAll(".js-plotly-plot")) {
    const box = chart.getBoundingClientRect();
    for (const text of chart.querySelectorAll("text")) {
      const own = text.getBoundingClientRect();
      if (own.width && (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1))
        found.push(text.textContent);
    }
  }
  for (const cell of document.querySelectorAll("td, .tile dd, h1, h2, p"))
    if (cell.scrollWidth > cell.clientWidth + 1) found.push(cell.textContent);
  return found;
}
"""
# Words of up to 20 characters in a table that are broken over two lines; between parts that a hyphen joins, they may be.
BROKEN = """
() => {
  const found = [];
  for (const cell of document.querySelectorAll("td")) {
    const node = cell.firstChild;
    for (const word of node?.nodeType === Node.TEXT_NODE ? node.data.matchAll(/[^\\s-]+/g) : []) {
      if (word[0].length > 20) continue;
      const range = document.createRange();
      range.setStart(node, word.index); range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) found.push(word[0]);
    }
  }
  return found;
}
"""
# The contrast of each kind of text with what is behind it.
CONTRAST = """
() => {
  const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parts = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
  const light = c => { const [r, g, b] = parts(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const card = light(getComputedStyle(document.querySelector(".chart")).backgroundColor);
  const of = (query, property) => [...document.querySelectorAll(query)].map(e => ratio(light(getComputedStyle(e)[property]), card));
  return Math.min(...of("td, th, .tile dt, .tile dd, h2", "color"), ...of(".js-plotly-plot text", "fill"));
}
"""


def day() -> Figures:
    """A day of mixed traffic, with names as long as they come."""
    rng = random.Random(3)
    hourly: Rows = []
    for number in range(24):
        requests = rng.randrange(4_000, 60_000)
        limited, blocked, failed = requests // 30, requests // 90, requests // 200
        hourly.append(
            {
                "hour": f"{MIDNIGHT + timedelta(hours=number):%Y-%m-%d %H:%M:%S}", "requests": requests, "total_tokens": requests * 700,
                "input_tokens": requests * 500, "output_tokens": requests * 200, "avg_latency_ms": 800.0 + 40 * number,
                "p95_latency_ms": 2_400.0 + 90 * number, "error_rate_pct": Decimal("4.97"), "errors": limited + blocked + failed,
                "rate_limited": limited, "blocked": blocked, "served": requests - limited - blocked - failed, "fallbacks": requests // 50,
            }
        )  # fmt: skip
    names = ["production-llm", "customer-support-assistant-with-a-long-name", "search", "batch-summaries"]
    endpoints: Rows = [
        {"endpoint_name": name, "requests": 500_000 // (n + 1), "input_tokens": 250_000_000 // (n + 1),
         "output_tokens": 100_000_000 // (n + 1), "avg_latency_ms": 912.4, "p95_latency_ms": 3_120.0,
         "errors": 12_345, "rate_limited": 9_876, "blocked": 2_345,
         "cost": Decimal("1234.567891") / (n + 1)}
        for n, name in enumerate(names)
    ]  # fmt: skip
    entities: Rows = [
        {"endpoint_name": name, "served_entity_name": entity, "served_model_name": "gpt-4o", "answers": rng.randrange(100, 300_000)}
        for name in names for entity in ("primary-openai", "fallback-anthropic", "canary-with-a-very-long-name-indeed")
    ]  # fmt: skip
    people = ("alice", "bob", "carol", "dave", "service-account-of-the-nightly-batch-summaries", "<img src=x onerror=alert(1)>")
    users: Rows = [
        {"requester": f"{name}@example.com", "requests": 90_000 // (n + 1), "total_tokens": 9_000_000 // (n + 1), "rate_limited": 17 * n}
        for n, name in enumerate(people)
    ]  # fmt: skip
    tags: Rows = [
        {"tag": tag, "value": value, "requests": 1, "total_tokens": 1, "cost": Decimal(rng.randrange(100, 90_000)) / 100}
        for tag, values in {"team": ("ads", "search", "support"), "project": ("a" * 60, "b"), "cost-center": ("CC-1234", "CC-9")}.items()
        for value in values
    ]  # fmt: skip
    kinds = ("KEYWORD", "PII", "SAFETY", "TOPIC")
    findings: Rows = [
        {"assessment_type": kind, "direction": side, "assessment_result": "BLOCKED", "findings": rng.randrange(1, 900)}
        for kind in kinds for side in ("input", "output")
    ]  # fmt: skip
    reviews: Rows = [
        {"time": f"2026-11-26 23:{59 - n:02d}:07", "endpoint_name": rng.choice(names), "requester": "alice@example.com",
         "assessment_type": rng.choice(kinds), "direction": "input", "assessment_result": "BLOCKED",
         "assessment_details": '{"entities":{"EMAIL_ADDRESS":1,"PERSON":2,"US_SOCIAL_SECURITY_NUMBER":1}}',
         "request_id": "0198f3c2-7a51-7c3e-9a6b-0d5f2b1c4e77"}
        for n in range(20)
    ]  # fmt: skip
    tables = {"hourly": list(reversed(hourly)), "endpoints": endpoints, "entities": entities, "users": users, "tags": tags,
              "findings": findings, "reviews": reviews, "unpriced": [{"requests": 17}]}  # fmt: skip
    return Figures(1, tables, 4)


def replayed() -> str:
    """The page of a replay between two endpoints that differ in everything."""
    rng = random.Random(5)
    pairs = []
    for number in range(400):
        status, then = rng.choice([200] * 9 + [502]), rng.choice([200] * 9 + [400])
        request_id = f"0198f3c2-7a51-7c3e-9a6b-{number:012d}"
        pairs.append(
            {
                "replay_of": f"<img src=x onerror=alert({number})>" if number % 9 == 0 else request_id, "request_id": request_id,
                "original_status_code": then, "status_code": status, "error_code": None if status == 200 else "BAD_GATEWAY",
                "original_execution_time_ms": rng.randrange(300, 2_500), "execution_time_ms": rng.randrange(500, 60_000),
                "original_input_tokens": 512, "input_tokens": 498, "original_output_tokens": 201, "output_tokens": rng.randrange(900),
                "original_cost": Decimal("0.0123"), "cost": Decimal("0.0045"), "original_masked": number % 30 == 0,
                "original_guardrails": [] if then == 200 else ["input KEYWORD blocked"],
                "guardrails": ["output SAFETY blocked"] * (number % 2), "similarity": rng.random() if then == status == 200 else None,
            }
        )  # fmt: skip
    plan = Plan(replay_id="20261126-235907-ab12", table="production.gateway_logs.customer_support_assistant_request_response",
                where="true", endpoint="candidate", limit=None, requests=400, skipped={"without text": 12})  # fmt: skip
    return replay_page.page(plan, figures(pairs), pairs, MIDNIGHT)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages on disk."""
    folder = tmp_path_factory.mktemp("page")
    pages = {"dashboard": page(day(), MIDNIGHT + timedelta(days=1)), "replay": replayed()}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without it these tests fail, since they are the only ones that look at the page."""
    found = shutil.which("chromium")
    assert found, "there is no chromium: `make browser` installs Debian's"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


VIEWS = [("dashboard", size, scheme) for size in (PHONE, DESK) for scheme in ("light", "dark")]
VIEWS += [("replay", PHONE, "dark"), ("replay", DESK, "light")]


@pytest.fixture(params=VIEWS, ids=lambda p: f"{p[0]}-{p[1][0]}-{p[2]}")
def shown(request: pytest.FixtureRequest, browser: Browser, files: dict[str, Path]) -> Iterator[Page]:
    """The page, drawn; whatever it asks the network for is noted in `asked`."""
    name, (width, height), scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    made = context.new_page()
    asked: list[str] = []
    failed: list[str] = []
    made.on("request", lambda r: asked.append(r.url))
    made.on("pageerror", lambda e: failed.append(str(e)))
    made.goto(files[name].as_uri())
    made.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
    if folder := os.environ.get("SLUICE_SCREENSHOTS"):
        made.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=True)
    yield made
    context.close()
    assert failed == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_nothing_overlaps_is_cut_off_or_hard_to_read(shown: Page) -> None:
    charts = shown.locator(".chart")
    assert charts.count() == shown.locator(".js-plotly-plot").count() >= 4
    for number in range(charts.count()):
        assert charts.nth(number).locator("h2").inner_text().strip()
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert shown.evaluate(OVERLAPS) == []
    assert shown.evaluate(CUT_OFF) == []
    assert shown.evaluate(BROKEN) == []
    assert shown.evaluate(CONTRAST) >= 4.5


def test_each_axis_says_what_it_counts(shown: Page) -> None:
    for chart in shown.locator(".js-plotly-plot").all():
        titles = chart.locator(".ytitle, .xtitle").all_text_contents()
        assert any(title.strip() for title in titles)


def test_what_a_user_has_named_is_text(shown: Page) -> None:
    assert shown.locator("img").count() == 0
    assert "<img src=x" in shown.locator("main").inner_text()


def test_it_follows_when_the_theme_changes(shown: Page) -> None:
    def fill() -> Any:
        return shown.locator(".js-plotly-plot .xtick text, .js-plotly-plot .ytick text").first.evaluate("e => getComputedStyle(e).fill")

    before = fill()
    scheme = "light" if shown.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "dark"
    shown.emulate_media(color_scheme=scheme)
    shown.wait_for_function(f"getComputedStyle(document.querySelector('.js-plotly-plot .ytick text')).fill !== '{before}'")
    assert shown.evaluate(CONTRAST) >= 4.5
