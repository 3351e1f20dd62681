"""What happens to the processes of a stack while the load runs, one thing after the other, each over before the next begins.

kills     a worker, the ingress, the table job and the broker die by SIGKILL, and come back
stops     a worker stands still (SIGSTOP) until its session is long over, and wakes as if nothing had been
drains    a worker is asked to end (SIGTERM) with calls under way: it finishes them, and none is called twice
comings   a further worker comes and goes, so that the partitions are shared out again and again

Order and victims come from the seed. The moments are shares of the load's answers, so that a slow machine sees the same run. A part that
does not come back, or does not go, raises AssertionError.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.stack.process import ChildProcess
from tests.running import Stack

PARTS = ("worker", "ingress", "tables", "kafka")
BACK_S = 150.0
# Spark starts beside a load that takes all the machine has: in a minute, and in more than two where it is slow.
TABLES_BACK_S = 600.0
FIRST_AT, LAST_AT = 0.05, 0.9
# The session is 10 s: the broker has given the partitions away when the worker wakes.
STOPPED_S = 14.0
# A worker waits at most 15 s for what runs (worker/app.py), then it has to leave the group and close.
GONE_S = 25.0


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing, as it was: how many requests had their answer, and after how long all was well again."""

    what: str
    answered: int
    back_s: float


class Trouble(Protocol):
    """`run` ends when all has happened and is over; `drained_ms`: from when to when a worker was ending as it should, in epoch ms."""

    done: list[Happened]
    drained_ms: list[tuple[int, int]]

    async def run(self) -> None: ...


# Makes a trouble for a stack: how often, the requests of the load, the seed, and how many have their answer so far.
MakeTrouble = Callable[[Stack, int, int, int, Callable[[], int]], Trouble]


class AtMoments(ABC):
    """`plan` spread over a load of `count` requests of which `answered` tells the progress."""

    def __init__(self, stack: Stack, plan: list[str], count: int, answered: Callable[[], int]) -> None:
        self._stack, self._plan, self._count, self._answered = stack, plan, count, answered
        self.done: list[Happened] = []
        self.drained_ms: list[tuple[int, int]] = []

    async def run(self) -> None:
        """Until all of the plan has happened and is over."""
        async for what in self._moments():
            await self._noted(what)

    async def _noted(self, what: str) -> None:
        answered, began_s = self._answered(), time.monotonic()
        await self._happens(what)
        self.done.append(Happened(what, answered, time.monotonic() - began_s))

    async def _moments(self) -> AsyncIterator[str]:
        for number, what in enumerate(self._plan):
            share = FIRST_AT + (LAST_AT - FIRST_AT) * number / max(len(self._plan) - 1, 1)
            while self._answered() < share * self._count:
                await asyncio.sleep(0.02)
            yield what

    @abstractmethod
    async def _happens(self, what: str) -> None:
        """Have it happen, and wait until it is over."""

    def _pid(self, part: str) -> int:
        pid = self._stack.state().parts[part].pid
        assert pid is not None, f"{part} is not running"
        return pid

    def _shares(self) -> dict[str, int]:
        """How often each worker of the stack has been given its share of the partitions."""
        logs = {name: self._stack.data / "logs" / f"{name}.log" for name in _workers(self._stack)}
        return {name: log.read_text("utf-8", "replace").count("SLUICE READY") for name, log in logs.items()}

    async def _shared_out(self, before: dict[str, int]) -> None:
        """Until every worker has been given a share once more: what it lost by that is cut off by then, and called elsewhere."""
        await self._until(lambda: all(count > before[name] for name, count in self._shares().items()), "the partitions shared out", BACK_S)

    async def _until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"not {what} after {timeout_s} s"
            await asyncio.sleep(0.05)


def _workers(stack: Stack) -> list[str]:
    return sorted(name for name in stack.state().parts if name.startswith("worker-"))


class Kills(AtMoments):
    """Each of PARTS dies `times` times. The table job takes its time to come back; the others die meanwhile."""

    def __init__(self, stack: Stack, times: int, count: int, seed: int, answered: Callable[[], int]) -> None:
        chance = random.Random(seed)
        plan = [part for part in PARTS for _ in range(times)]
        chance.shuffle(plan)
        workers = _workers(stack)
        super().__init__(stack, [chance.choice(workers) if part == "worker" else part for part in plan], count, answered)

    async def run(self) -> None:
        """As all do, and until the table job is back."""
        before: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            async for what in self._moments():
                if what == "tables":
                    before = group.create_task(self._after(before, what))
                else:
                    await self._noted(what)

    async def _after(self, before: asyncio.Task[None] | None, what: str) -> None:
        if before is not None:
            await before
        await self._noted(what)

    async def _happens(self, what: str) -> None:
        await end(self._stack, what, signal.SIGKILL)


class OfWorkers(AtMoments):
    """It happens to a worker, `times` times; the seed says to which."""

    def __init__(self, stack: Stack, times: int, count: int, seed: int, answered: Callable[[], int]) -> None:
        chance = random.Random(seed)
        super().__init__(stack, [chance.choice(_workers(stack)) for _ in range(times)], count, answered)


class Stops(OfWorkers):
    """A worker stands still for STOPPED_S, `times` times. Woken, it ends itself (worker/watchdog.py) and is started again."""

    async def _happens(self, what: str) -> None:
        restarts, pid = self._stack.state().parts[what].restarts, self._pid(what)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(STOPPED_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        await back(self._stack, what, restarts)


class Drains(OfWorkers):
    """A worker is asked to end, `times` times; the supervisor starts it again."""

    async def _happens(self, what: str) -> None:
        restarts, shares, began_ms = self._stack.state().parts[what].restarts, self._shares(), _now_ms()
        os.kill(self._pid(what), signal.SIGTERM)
        await self._until(lambda: self._stack.state().parts[what].restarts > restarts, f"{what} gone", GONE_S)
        self.drained_ms.append((began_ms, _now_ms()))
        await self._shared_out(shares)


class Comings(AtMoments):
    """A further worker comes, then goes by SIGTERM, `times` times."""

    def __init__(self, stack: Stack, times: int, count: int, seed: int, answered: Callable[[], int]) -> None:
        super().__init__(stack, ["comes", "goes"] * times, count, answered)
        self._further: ChildProcess | None = None
        self._log = stack.data / "logs" / "worker-further.log"

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self._further is not None:
                self._further.kill_group()

    async def _happens(self, what: str) -> None:
        shares = self._shares()
        if what == "comes":
            self._log.unlink(missing_ok=True)
            argv = [sys.executable, "-m", "pipeline", "worker", "--worker-id", "worker-further"]
            self._further = ChildProcess(argv, self._log, env=environment_of(self._pid(_workers(self._stack)[0])))
            await self._until(self._is_ready, "ready", BACK_S)
        else:
            further, began_ms = self._further, _now_ms()
            assert further is not None
            further.signal(signal.SIGTERM)
            await self._until(lambda: further.exit_code() is not None, "gone", GONE_S)
            self.drained_ms.append((began_ms, _now_ms()))
            assert further.exit_code() == 0, f"it ended with {further.exit_code()}; see {self._log}"
        await self._shared_out(shares)

    def _is_ready(self) -> bool:
        assert self._further is not None and self._further.exit_code() is None, f"it ended; see {self._log}"
        return self._log.exists() and "SLUICE READY" in self._log.read_text("utf-8", "replace")


async def end(stack: Stack, part: str, number: signal.Signals) -> float:
    """Send `number` to a part and wait until it is there again; after how long it was. AssertionError where it doesn't come back."""
    state, began_s = stack.state().parts[part], time.monotonic()
    assert state.pid is not None, f"{part} is not running"
    os.kill(state.pid, number)
    await back(stack, part, state.restarts)
    return time.monotonic() - began_s


async def back(stack: Stack, part: str, restarts: int) -> None:
    """Wait until a part that had been started again so many times is there once more. AssertionError where it does not come back."""
    back_s = TABLES_BACK_S if part == "tables" else BACK_S
    await asyncio.to_thread(
        stack.wait_state, lambda now: now.parts[part].restarts > restarts and now.parts[part].ready, f"{part} back", back_s
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process of ours was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_text("utf-8").split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name}


TROUBLES: dict[str, MakeTrouble] = {"kills": Kills, "stops": Stops, "drains": Drains, "comings": Comings}
