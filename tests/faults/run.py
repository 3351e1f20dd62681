"""One run under faults: load and a trouble at once on a running stack, then quiet, then the checks."""

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
from tests.faults.load import AT_MOST, Kind, Load, Sent
from tests.faults.troubles import TROUBLES, Happened
from tests.running import Stack

USERS = ("alice@example.com", "bob@example.com", "carol@example.com", "dave@example.com")
PER_MINUTE = 40
ROWS_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Use:
    """What one endpoint of a run is for: its model, how often it is asked (of 100 requests), whether in streams."""

    model: str
    weight: int
    stream: bool = False


# At once, a third of a second, a stream of some pieces, at once under a limit.
USES = {
    "quick": Use("echo", 50),
    "slow": Use("echo+slow-0.3", 20),
    "stream": Use("echo+pieces-12+drip-0.05", 20, stream=True),
    "limited": Use("echo+limited", 10),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: `trouble` (a name of TROUBLES) happens `times` times while `clients` send `requests`, or more until it is over."""

    trouble: str
    times: int
    requests: int
    clients: int = 64
    seed: int = 1

    @property
    def name(self) -> str:
        """Its own, so that several runs can follow each other on one stack."""
        return f"{self.trouble}-{self.seed}"


@dataclass(slots=True)
class Verdict:
    """What came of a run."""

    plan: Plan
    seconds: float
    sent: list[Sent]
    happened: list[Happened]
    violations: list[Violation]
    calls: int
    second_calls: int
    rows: int
    statuses: Counter[int] = field(default_factory=Counter)


async def run(stack: Stack, plan: Plan, watch: Callable[[int], Any] = lambda _: None) -> Verdict:
    """Run `plan` on a stack that has not run it before; `watch` is told how many requests have their answer."""
    assert max(plan.requests * 2, AT_MOST) < MAX_CALLS, "the demo provider would forget calls"
    endpoints = create_endpoints(stack, plan.name)
    tokens = {user: stack.token(user) for user in USERS}
    trouble = TROUBLES[plan.trouble](stack, plan.times, plan.requests, plan.seed, lambda: load.done)
    troubled = asyncio.create_task(trouble.run())
    load = Load(
        lambda: stack.host, tokens, kinds_of(endpoints), plan.requests, plan.clients, plan.seed, plan.name,
        goes_on=lambda: not troubled.done(),
    )  # fmt: skip
    began_s = time.monotonic()
    tasks = [asyncio.create_task(load.run()), troubled]
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
    rows = await asyncio.to_thread(wait_rows, stack, endpoints, {s.answered_id for s in load.sent if s.status})
    ours = {s.request_id for s in load.sent}
    calls = [call for call in await asyncio.to_thread(provider_calls, stack.demo_url) if call["request_id"] in ours]
    found = violations(load.sent, rows, calls, [Limit(endpoints["limited"], PER_MINUTE)], trouble.drained_ms)
    return Verdict(
        plan,
        seconds,
        load.sent,
        trouble.done,
        found,
        len(calls),
        len(calls) - len({c["request_id"] for c in calls}),
        len(rows),
        Counter(s.status for s in load.sent),
    )


def create_endpoints(stack: Stack, name: str) -> dict[str, str]:
    """An endpoint for each of USES, with an inference table of its own; use -> endpoint. `name` is the first part of their names."""
    endpoints = {use: f"{name}-{use}" for use in USES}
    for use, endpoint in endpoints.items():
        table = {"catalog_name": "faults", "schema_name": "tests", "table_name_prefix": endpoint.replace("-", "_"), "enabled": True}
        gateway: dict[str, Any] = {"inference_table_config": table}
        if use == "limited":
            gateway["rate_limits"] = [{"calls": PER_MINUTE, "renewal_period": "minute", "key": "user"}]
        stack.create_endpoint(endpoint, gateway, entities=[stack.entity(USES[use].model)])
    return endpoints


def kinds_of(endpoints: dict[str, str]) -> list[Kind]:
    """The requests that go to these endpoints of `create_endpoints`."""
    return [Kind(endpoints[name], use.weight, use.stream) for name, use in USES.items()]


def wait_rows(stack: Stack, endpoints: dict[str, str], wanted: set[str]) -> list[dict[str, Any]]:
    """All endpoints' rows, as soon as all that are wanted are there, or after ROWS_WITHIN_S."""
    deadline_s = time.monotonic() + ROWS_WITHIN_S
    while True:
        rows = [row for name in endpoints.values() for row in stack.rows(f"faults.tests.{name.replace('-', '_')}_request_response")]
        if wanted <= {row["request_id"] for row in rows} or time.monotonic() > deadline_s:
            return rows
