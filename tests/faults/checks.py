"""The invariants of a run under faults, checked when all is quiet. Pure: ledgers and rows in, violations out.

lost         a request without a final answer, one of whose tries had no answer in time, or without a row
double       two rows of one request id
phantom      a row of a request that nobody sent
mismatched   status or text of the row are not those of the answer
cross-talk   an answer that belongs to another request or user
over limit   more admitted in a window than the limit allows
repeated     a request that was finished has been sent to the provider again
cut short    a worker that was asked to end did not see a call of its own through, and it was called again
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.faults.load import Sent

KINDS = ("lost", "double", "phantom", "mismatched", "cross-talk", "over limit", "repeated", "cut short")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be."""

    kind: str
    request_id: str
    says: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What an endpoint admits of each user in a minute."""

    endpoint: str
    calls: int


def violations(
    sent: list[Sent],
    rows: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    limits: Iterable[Limit] = (),
    drained_ms: Iterable[tuple[int, int]] = (),
) -> list[Violation]:
    """All that is wrong. `rows` are those of all endpoints' request tables; `calls` the provider's ledger of these requests;
    `drained_ms`: when a worker was asked to end, and when it had."""
    found: list[Violation] = []
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_id[row["request_id"]].append(row)
    known = {s.request_id for s in sent}
    for request_id, several in by_id.items():
        if len(several) > 1:
            found.append(Violation("double", request_id, f"{len(several)} rows"))
        # A try that a limit refused has an id of its own, which its client may never have seen.
        if request_id not in known and any(row["status_code"] != 429 for row in several):
            found.append(Violation("phantom", request_id, f"status {several[0]['status_code']}"))
    for one in sent:
        found += _of_one(one, by_id)
    found += _over_limit(rows, limits)
    found += _repeated(by_id, calls)
    found += _cut_short(calls, list(drained_ms))
    return found


def _of_one(sent: Sent, by_id: dict[str, list[dict[str, Any]]]) -> list[Violation]:
    if sent.status == 0:
        return [Violation("lost", sent.request_id, f"no final answer in {sent.tries} tries")]
    if sent.unanswered:
        return [
            Violation("lost", sent.request_id, f"a try had no answer; the final one came after {sent.took_s:.0f} s and {sent.tries} tries")
        ]
    rows = by_id.get(sent.answered_id, [])
    if not rows:
        return [Violation("lost", sent.answered_id, f"answered with {sent.status}, but there is no row")]
    row = rows[0]
    found = []
    if row["requester"] != sent.user or row["endpoint_name"] != sent.endpoint:
        found.append(
            Violation("cross-talk", sent.answered_id, f"the row is {row['requester']}'s on {row['endpoint_name']}, not {sent.user}'s")
        )
    if sent.status == 200 and sent.answer != sent.text:
        found.append(Violation("cross-talk", sent.answered_id, f"answered {sent.answer!r} to {sent.text!r}"))
    if row["status_code"] != sent.status:
        found.append(Violation("mismatched", sent.answered_id, f"answered with {sent.status}, the row says {row['status_code']}"))
    elif sent.status == 200 and _said(row) != sent.answer:
        found.append(Violation("mismatched", sent.answered_id, "the row has another text than the answer"))
    return found


def _said(row: dict[str, Any]) -> Any:
    return json.loads(row["response"])["choices"][0]["message"]["content"]


def _over_limit(rows: list[dict[str, Any]], limits: Iterable[Limit]) -> list[Violation]:
    found = []
    for limit in limits:
        admitted = Counter(
            (row["requester"], row["timestamp_ms"] // 60_000)
            for row in {r["request_id"]: r for r in rows if r["endpoint_name"] == limit.endpoint}.values()
            if row["status_code"] != 429
        )
        found += [
            Violation("over limit", "", f"{count} calls of {user} on {limit.endpoint} in minute {minute}, allowed are {limit.calls}")
            for (user, minute), count in admitted.items()
            if count > limit.calls
        ]
    return found


def _repeated(by_id: dict[str, list[dict[str, Any]]], calls: list[dict[str, Any]]) -> list[Violation]:
    found = []
    before: Counter[str] = Counter()
    for call in sorted(calls, key=lambda c: c["time_ms"]):
        rows, number = by_id.get(call["request_id"], []), before[call["request_id"]]
        before[call["request_id"]] += 1
        # What was answered comes from a call, the first at the latest: where that seems too late, the wall clock was set back meanwhile.
        if not rows or (number == 0 and rows[0]["status_code"] == 200):
            continue
        late_ms = call["time_ms"] - rows[0]["timestamp_ms"] - rows[0]["execution_time_ms"]
        if late_ms > 0:
            says = f"call {number + 1} came {late_ms} ms after it was finished with {rows[0]['status_code']}"
            found.append(Violation("repeated", call["request_id"], says))
    return found


def _cut_short(calls: list[dict[str, Any]], drained_ms: list[tuple[int, int]]) -> list[Violation]:
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in sorted(calls, key=lambda c: c["time_ms"]):
        by_id[call["request_id"]].append(call)
    return [
        Violation("cut short", request_id, f"its call ended ({call['state']}) while a worker was ending, and it was called again")
        for request_id, several in by_id.items()
        for call in several[:-1]
        if any(begin <= call["ended_ms"] <= end for begin, end in drained_ms)
    ]
