"""One run under faults: a fresh stack, load and troubles at once, then quiet, then the checks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.demo_provider.ledger import MAX_CALLS
from tests.demo import calls as provider_calls
from tests.faults.checks import Limit, Violation, violations
from tests.faults.load import Kind, Load, Sent
from tests.faults.troubles import Kill, Kills
from tests.running import Stack

USERS = ("alice@example.com", "bob@example.com", "carol@example.com", "dave@example.com")
PER_MINUTE = 40
ROWS_WITHIN_S = 180.0
# Model by endpoint: at once, a third of a second, a stream of some pieces, at once under a limit.
ENDPOINTS = {
    "fault-quick": "echo",
    "fault-slow": "echo+slow-0.3",
    "fault-stream": "echo+pieces-12+drip-0.05",
    "fault-limited": "echo+limited",
}
KINDS = [Kind("fault-quick", 50), Kind("fault-slow", 20), Kind("fault-stream", 20, stream=True), Kind("fault-limited", 10)]


@dataclass(slots=True)
class Verdict:
    """What came of a run."""

    seed: int
    seconds: float
    sent: list[Sent]
    kills: list[Kill]
    violations: list[Violation]
    calls: int
    rows: int
    statuses: Counter[int] = field(default_factory=Counter)


async def run(stack: Stack, requests: int, clients: int, kills: int, seed: int, watch: Callable[[int], Any] = lambda _: None) -> Verdict:
    """Send `requests` from `clients` at once to a fresh `stack` while each part is killed `kills` times; `watch` is told the progress."""
    assert requests * 2 < MAX_CALLS, "the demo provider would forget calls"
    create_endpoints(stack)
    load = Load(lambda: stack.host, {user: stack.token(user) for user in USERS}, KINDS, requests, clients, seed)
    trouble = Kills(stack, kills, requests, seed, lambda: load.done)
    began_s = time.monotonic()
    tasks = [asyncio.create_task(load.run()), asyncio.create_task(trouble.run())]
    while not all(task.done() for task in tasks):
        watch(load.done)
        await asyncio.wait(tasks, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
        if any(task.done() and task.exception() for task in tasks):
            break
    for task in tasks:
        if not task.done():
            task.cancel()
    await asyncio.gather(*tasks)
    seconds = time.monotonic() - began_s
    rows = await asyncio.to_thread(wait_rows, stack, {s.answered_id for s in load.sent if s.status})
    calls = await asyncio.to_thread(provider_calls, stack.demo_url)
    found = violations(load.sent, rows, calls, [Limit("fault-limited", PER_MINUTE)])
    return Verdict(seed, seconds, load.sent, trouble.done, found, len(calls), len(rows), Counter(s.status for s in load.sent))


def create_endpoints(stack: Stack) -> None:
    """The endpoints of KINDS, each with an inference table of its own."""
    for endpoint, model in ENDPOINTS.items():
        table = {"catalog_name": "faults", "schema_name": "tests", "table_name_prefix": endpoint.replace("-", "_"), "enabled": True}
        gateway: dict[str, Any] = {"inference_table_config": table}
        if endpoint == "fault-limited":
            gateway["rate_limits"] = [{"calls": PER_MINUTE, "renewal_period": "minute", "key": "user"}]
        stack.create_endpoint(endpoint, gateway, entities=[stack.entity(model)])


def wait_rows(stack: Stack, wanted: set[str]) -> list[dict[str, Any]]:
    """All endpoints' rows, as soon as all that are wanted are there, or after ROWS_WITHIN_S."""
    deadline_s = time.monotonic() + ROWS_WITHIN_S
    while True:
        rows = [row for name in ENDPOINTS for row in stack.rows(f"faults.tests.{name.replace('-', '_')}_request_response")]
        if wanted <= {row["request_id"] for row in rows} or time.monotonic() > deadline_s:
            return rows
