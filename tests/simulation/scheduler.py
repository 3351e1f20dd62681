"""Virtual time, and processes that take turns: one event loop for each, a seeded choice of who makes the next step.

A step is what runs between two awaits. Within a process steps run in asyncio's own order; between processes the seed decides. Time stands
still while anybody can run, and then goes to the next timer. A process that is killed makes no further step; one that is stopped makes
none until it is woken, and finds its timers due. Code that asks the clock gets virtual time (`clock`), with its process' own error.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

# Simulated wall clocks start here, in epoch seconds: some seconds before a full minute, so that windows change while things happen.
START_S = 1_800_000_045.0
# Requests are sent and faults begin before this; then everything has to heal.
FAULTS_S = 40.0


class ProcessEnded(BaseException):
    """Unwinds the step in which a process ends itself."""


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process."""

    def __init__(self, world: World, name: str, clock_error_s: float) -> None:
        self.world, self.name, self.clock_error_s = world, name, clock_error_s
        self.ready: deque[asyncio.Handle] = deque()
        self.alive, self.stopped = True, False
        self.failures: list[str] = []
        self.steps_to_fault: tuple[int, Callable[[], None]] | None = None

    @property
    def can_run(self) -> bool:
        return bool(self.ready) and self.alive and not self.stopped

    def step(self) -> None:
        """Run up to the next await."""
        if self.steps_to_fault is not None:
            left, fault = self.steps_to_fault
            self.steps_to_fault = (left - 1, fault) if left > 0 else None
            if left <= 0:
                fault()
                return
        handle = self.ready.popleft()
        if not handle._cancelled:
            asyncio._set_running_loop(self)
            self.world.running = self
            try:
                handle._run()
            finally:
                asyncio._set_running_loop(None)
                self.world.running = None

    def end(self) -> None:
        """Nothing runs here any more."""
        self.alive = False
        self.ready.clear()

    def time(self) -> float:
        return self.world.now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self.alive:
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.world.now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.push(when, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if self.alive and exc is not None and not isinstance(exc, ProcessEnded):
            self.failures.append(f"{context.get('message')}: {exc!r}")


class World:
    """All processes, all timers, one source of chance."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.now_s = 0.0
        self.loops: list[Loop] = []
        self.running: Loop | None = None
        self.story: list[str] = []
        self.steps = 0
        self._timers: list[tuple[float, int, Loop | None, Any]] = []
        self._pushed = 0

    def push(self, when_s: float, loop: Loop | None, what: Any) -> None:
        """`what` is a handle of `loop`, or a callable of the world's own."""
        self._pushed += 1
        heapq.heappush(self._timers, (when_s, self._pushed, loop, what))

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        """Call `what` after `delay_s`, outside all processes."""
        self.push(self.now_s + delay_s, None, what)

    def tell(self, what: str) -> None:
        """Note for whoever reads a failing seed."""
        self.story.append(f"{self.now_s:9.4f} {what}")

    def wall_s(self) -> float:
        """True time, in epoch seconds."""
        return START_S + self.now_s

    def run(self, is_over: Callable[[], bool], limit_s: float) -> bool:
        """Until `is_over()`, asked whenever time goes on; False where `limit_s` came first."""
        while True:
            runnable = [loop for loop in self.loops if loop.can_run]
            if runnable:
                self.steps += 1
                (runnable[0] if len(runnable) == 1 else self.random.choice(runnable)).step()
                continue
            if is_over():
                return True
            if not self._timers or self.now_s > limit_s:
                return False
            self.now_s = max(self.now_s, self._timers[0][0])
            while self._timers and self._timers[0][0] <= self.now_s:
                _, _, loop, what = heapq.heappop(self._timers)
                if loop is None:
                    what()
                elif loop.alive and not what._cancelled:
                    loop.ready.append(what)


class Clock:
    """Stands where modules have `time`; reads the world that is running."""

    world: World | None = None

    def _now_s(self) -> float:
        return self.world.now_s if self.world else 0.0

    def _wall_s(self) -> float:
        if self.world is None:
            return START_S
        return self.world.wall_s() + (self.world.running.clock_error_s if self.world.running else 0.0)

    def as_module(self) -> Any:
        return SimpleNamespace(
            time=self._wall_s, time_ns=lambda: int(self._wall_s() * 1e9), monotonic=self._now_s, perf_counter=self._now_s
        )


CLOCK = Clock()
