"""What happens to the stack while the load runs: parts are killed with SIGKILL, one after the other, each back before the next goes.

The order and the victims come from the seed. The moments are shares of the load's answers, so that a slow machine sees the same run.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.running import Stack

PARTS = ("worker", "ingress", "tables", "kafka")
BACK_S = 150.0
FIRST_AT, LAST_AT = 0.05, 0.9


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, as it was: how many requests had their answer, and after how long the part was ready again."""

    part: str
    answered: int
    back_s: float


class Kills:
    """Each of PARTS `times` times, spread over a load of `count` requests of which `answered` tells the progress."""

    def __init__(self, stack: Stack, times: int, count: int, seed: int, answered: Callable[[], int]) -> None:
        chance = random.Random(seed)
        self._plan = [part for part in PARTS for _ in range(times)]
        chance.shuffle(self._plan)
        workers = sorted(name for name in stack.state().parts if name.startswith("worker-"))
        self._plan = [chance.choice(workers) if part == "worker" else part for part in self._plan]
        self._stack, self._count, self._answered = stack, count, answered
        self.done: list[Kill] = []

    async def run(self) -> None:
        """Until all have been killed and are back. Raises AssertionError where one does not come back."""
        for number, part in enumerate(self._plan):
            share = FIRST_AT + (LAST_AT - FIRST_AT) * number / max(len(self._plan) - 1, 1)
            while self._answered() < share * self._count:
                await asyncio.sleep(0.02)
            answered = self._answered()
            self.done.append(Kill(part, answered, await end(self._stack, part, signal.SIGKILL)))


async def end(stack: Stack, part: str, number: signal.Signals, back_s: float = BACK_S) -> float:
    """Send `number` to a part and wait until it is there again; after how long it was. AssertionError where it isn't within `back_s`."""
    state, began_s = stack.state().parts[part], time.monotonic()
    assert state.pid is not None
    os.kill(state.pid, number)
    await asyncio.to_thread(
        stack.wait_state, lambda now: now.parts[part].restarts > state.restarts and now.parts[part].ready, f"{part} back", back_s
    )
    return time.monotonic() - began_s
