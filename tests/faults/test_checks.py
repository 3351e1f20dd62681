"""Each check of the fault run finds what it is for, and nothing in a run where all is well."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checks import KINDS, Limit, violations
from tests.faults.load import Sent

USER, ENDPOINT = "alice@example.com", "quick"
LIMIT = Limit(ENDPOINT, 2)


def row(request_id: str, text: str, **other: Any) -> dict[str, Any]:
    response = json.dumps({"choices": [{"message": {"content": text}}]})
    made = {"request_id": request_id, "requester": USER, "endpoint_name": ENDPOINT, "status_code": 200, "response": response}
    return {**made, "timestamp_ms": 60_000, "execution_time_ms": 50, **other}


def sent(number: int, **other: Any) -> Sent:
    made = Sent(number, ENDPOINT, USER, f"r{number}", f"text {number}", 200, f"text {number}", f"r{number}", tries=1)
    return replace(made, **other)


SENT = [sent(1), sent(2)]
ROWS = [row("r1", "text 1"), row("r2", "text 2")]
CALLS = [
    {"request_id": "r1", "time_ms": 60_010, "ended_ms": 60_020, "state": "cut off"},
    {"request_id": "r2", "time_ms": 60_020, "ended_ms": 60_030, "state": "finished"},
]
DRAINED_MS = [(60_015, 60_025)]


def test_a_run_in_which_all_is_well_has_no_violation() -> None:
    assert violations(SENT, ROWS, CALLS, [LIMIT], DRAINED_MS) == []
    set_back = [{**CALLS[0], "time_ms": 60_051}, CALLS[1]]
    assert violations(SENT, ROWS, set_back) == []
    refused = sent(3, status=429, answer="", answered_id="try-of-r3")
    assert violations([*SENT, refused], [*ROWS, row("try-of-r3", "", status_code=429)], CALLS, [LIMIT], DRAINED_MS) == []


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("lost", {"sent": [sent(1, status=0), sent(2)]}),
        ("lost", {"sent": [sent(1, unanswered=True), sent(2)]}),
        ("lost", {"rows": ROWS[:1]}),
        ("double", {"rows": [*ROWS, ROWS[0]]}),
        ("phantom", {"rows": [*ROWS, row("r9", "text 9", requester="bob@example.com")]}),
        ("mismatched", {"rows": [ROWS[0], row("r2", "text 2", status_code=502)]}),
        ("mismatched", {"rows": [ROWS[0], row("r2", "another text")]}),
        ("cross-talk", {"rows": [ROWS[0], row("r2", "text 2", requester="bob@example.com")]}),
        ("cross-talk", {"sent": [sent(1), sent(2, answer="text 1")], "rows": [ROWS[0], row("r2", "text 1")]}),
        ("over limit", {"sent": [*SENT, sent(3)], "rows": [*ROWS, row("r3", "text 3", timestamp_ms=119_999)]}),
        ("repeated", {"calls": [*CALLS, {"request_id": "r1", "time_ms": 60_051}]}),
        (
            "repeated",
            {
                "sent": [sent(1, status=504), sent(2)],
                "rows": [row("r1", "", status_code=504), ROWS[1]],
                "calls": [{"request_id": "r1", "time_ms": 60_051}],
            },
        ),
        ("cut short", {"calls": [*CALLS, {"request_id": "r1", "time_ms": 60_030, "ended_ms": 60_040, "state": "finished"}]}),
    ],
)
def test_each_violation_is_found(kind: str, changes: dict[str, Any]) -> None:
    found = violations(
        changes.get("sent", SENT),
        changes.get("rows", ROWS),
        changes.get("calls", CALLS),
        [LIMIT],
        drained_ms=DRAINED_MS if kind == "cut short" else [],
    )
    assert {v.kind for v in found} == {kind}
    assert kind in KINDS
