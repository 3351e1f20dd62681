"""The figures of a comparison, counted by hand, and the page that shows them."""

from datetime import UTC, datetime
from decimal import Decimal

from jobs.replay_page import page
from pipeline.replay.figures import figures, summary
from pipeline.replay.folder import Plan


def a_pair(number, **changes):
    pair = {
        "replay_of": f"r{number}", "request_id": f"new{number}", "original_status_code": 200, "status_code": 200, "error_code": None,
        "original_execution_time_ms": 100, "execution_time_ms": 200, "original_input_tokens": 3, "input_tokens": 4,
        "original_output_tokens": 5, "output_tokens": 6, "original_cost": Decimal("0.5"), "cost": Decimal("0.25"),
        "original_guardrails": [], "guardrails": [], "similarity": 1.0, "original_masked": False,
    }  # fmt: skip
    return pair | changes


PAIRS = [
    a_pair(1),
    a_pair(2, similarity=0.5, cost=None, original_guardrails=["input PII masked"], guardrails=["input PII masked"], original_masked=True),
    a_pair(3, status_code=502, error_code="BAD_GATEWAY", similarity=None, execution_time_ms=9_000, output_tokens=0),
    a_pair(4, original_status_code=400, similarity=None, original_guardrails=["input KEYWORD blocked"], execution_time_ms=400),
]
PLAN = Plan(
    replay_id="20261128-010203-ab12", table="a.b.c_request_response", where="true", endpoint="<b>two</b>", limit=None, requests=4,
    skipped={"without text": 2},
)  # fmt: skip


def test_the_figures_of_both_sides():
    found = figures(PAIRS)
    assert (found.pairs, found.other_status, found.compared, found.same, found.masked, found.unpriced) == (4, 2, 2, 1, 1, 1)
    assert (found.before.statuses, found.after.statuses) == ({200: 3, 400: 1}, {200: 3, 502: 1})
    # Of delivered answers alone, and of pairs with a price on both sides alone.
    assert (found.before.latency_ms[50], found.after.latency_ms[50]) == (100, 200)
    assert (found.before.cost, found.after.cost) == (Decimal("1.5"), Decimal("0.75"))
    assert (found.before.output_tokens, found.after.output_tokens) == (20, 18)
    assert found.findings == {"input KEYWORD blocked": (1, 0, 0, 1), "input PII masked": (1, 1, 0, 0)}
    assert found.other_findings == 1
    assert found.similarity[50] == 0.75
    assert [pair["replay_of"] for pair in found.least_similar] == ["r2"]
    assert [pair["replay_of"] for pair in found.changed] == ["r3", "r4"]


def test_nothing_delivered_and_nothing_priced_is_no_number():
    lines = dict((name, (then, now)) for name, then, now in summary(figures([a_pair(1, status_code=502, cost=None, similarity=None)])))
    assert lines["latency p50, ms"] == ("100", "-")
    assert lines["cost"] == ("-", "-")
    assert lines["status 502"] == ("0", "1")


def test_the_page_says_what_the_figures_say_and_names_are_text():
    made = page(PLAN, figures(PAIRS), PAIRS, datetime(2026, 11, 28, tzinfo=UTC))
    body = made[made.index("<body>") :]
    assert "&lt;b&gt;two" in body and "<b>two" not in body
    for text in ("Replay 20261128-010203-ab12", "BAD_GATEWAY", "input KEYWORD blocked", "2 rows without text were left out", "r2", "0.500"):
        assert text in body, text
