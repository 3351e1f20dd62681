"""Load at a steady rate, whether what came before is answered or not: an open loop, in a process of its own.

    plan     phases, one after the other without a pause: so many seconds, which endpoint, and every how manieth request goes elsewhere
    findings for each measured phase the latencies of the requests to its endpoint that were due in it, and everything that was no 200

A latency counts from the moment at which the request was due, not from when it went out: a stall is felt by all that were due in it, as
users would feel it. Requests that are measured may be answered in a later phase. Nothing is sent twice; what has no answer after
`GRACE_S` more than it should take counts as "unanswered".
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import orjson
import uvloop

from pipeline.open_files import allow_many

GRACE_S = 60.0
# Below the 5 s after which the gateway's ingress closes a connection that is not used.
KEEP_ALIVE_S = 4.0


@dataclass(frozen=True, slots=True)
class Phase:
    """`seconds` of requests to `endpoint`; each `every`-th goes to `other` instead (0: none) and is not measured.

    `name` "": nothing is measured. `give_up`: at its end the clients of `other` close their connections.
    """

    name: str
    seconds: float
    endpoint: str
    other: str = ""
    every: int = 0
    give_up: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` requests a second with `body`, whose model is the phase's endpoint. `longest_s`: how long the slowest of them takes."""

    url: str
    headers: dict[str, str]
    body: dict[str, Any]
    rate: float
    phases: list[Phase]
    longest_s: float


@dataclass(slots=True)
class Found:
    """What came of a phase. `in_flight`: how many requests were under way on average, those of `other` included."""

    name: str
    latencies_ms: list[float] = field(default_factory=list)
    other: dict[str, int] = field(default_factory=dict)
    in_flight: float = 0.0


class OpenLoad:
    """One run of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        names = {name for phase in plan.phases for name in (phase.endpoint, phase.other)}
        self._bodies = {name: orjson.dumps({**plan.body, "model": name}) for name in names}
        self._under_way: dict[asyncio.Task[None], str] = {}

    async def go(self) -> list[Found]:
        """Run all phases; what came of those that are measured."""
        plan, founds = self._plan, list[Found]()
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        timeout = aiohttp.ClientTimeout(total=plan.longest_s + GRACE_S)
        headers = {"Content-Type": "application/json", **plan.headers}
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            due_s = loop.time() + 0.1
            for phase in plan.phases:
                found = Found(phase.name)
                founds.append(found)
                count = int(phase.seconds * plan.rate)
                for number in range(count):
                    if (wait_s := due_s - loop.time()) > 0:
                        await asyncio.sleep(wait_s)
                    elsewhere = phase.every > 0 and number % phase.every == phase.every - 1
                    name = phase.other if elsewhere else phase.endpoint
                    task = asyncio.create_task(self._ask(session, name, due_s, None if elsewhere else found, found))
                    self._under_way[task] = name
                    task.add_done_callback(self._under_way.pop)
                    found.in_flight += len(self._under_way) / count
                    due_s += 1 / plan.rate
                if phase.give_up:
                    for task, name in list(self._under_way.items()):
                        if name == phase.other:
                            task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
        return [found for found in founds if found.name]

    async def _ask(self, session: aiohttp.ClientSession, name: str, due_s: float, measured: Found | None, found: Found) -> None:
        status = "unanswered"
        try:
            async with session.post(self._plan.url, data=self._bodies[name]) as answer:
                await answer.read()
                status = str(answer.status)
        except TimeoutError:
            pass
        except aiohttp.ClientError as exc:
            status = type(exc).__name__
        if status != "200":
            found.other[status] = found.other.get(status, 0) + 1
        elif measured is not None:
            measured.latencies_ms.append((asyncio.get_running_loop().time() - due_s) * 1000)


def run_apart(plan: Plan) -> list[Found]:
    """What came of the plan's measured phases, run by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.open_load"], input=orjson.dumps(asdict(plan)), stdout=subprocess.PIPE, check=True,
        timeout=sum(phase.seconds for phase in plan.phases) + plan.longest_s + 2 * GRACE_S,
    )  # fmt: skip
    return [Found(**found) for found in orjson.loads(done.stdout)]


def main() -> None:
    """Plan from stdin, findings to stdout."""
    read = orjson.loads(sys.stdin.buffer.read())
    plan = Plan(**{**read, "phases": [Phase(**phase) for phase in read["phases"]]})
    allow_many()
    # A pause of this process would look like one of the gateway's.
    gc.disable()
    sys.stdout.buffer.write(orjson.dumps([asdict(found) for found in uvloop.run(OpenLoad(plan).go())]))


if __name__ == "__main__":
    main()
