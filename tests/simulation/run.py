"""One seed from beginning to end: start, send, break, let it heal, wait until all is quiet, check."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import NoReturn

from pipeline import topics
from pipeline.core import request_body
from pipeline.worker import call, finished, guard, out, streamed, watchdog
from tests.simulation.broker import Broker, Stored
from tests.simulation.checks import violations
from tests.simulation.driver import LONGEST_DELAY_S
from tests.simulation.group import Group
from tests.simulation.provider import ProviderCall
from tests.simulation.scheduler import CLOCK, FAULTS_S, ProcessEnded, World
from tests.simulation.traffic import Traffic
from tests.simulation.worker import Process

LIMIT_S = 600.0
TIMED = (call, finished, guard, out, streamed, watchdog)


@dataclass(frozen=True, slots=True)
class Result:
    """What a seed came to."""

    seed: int
    violations: list[str]
    story: list[str]
    steps: int
    requests: int
    calls: int
    ends: int
    generations: int
    runs_beside: int


class Room:
    """What all processes of a run share, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        chance = self.world.random
        self.broker, self.group = Broker(self.world), Group(self.world)
        self.calls: list[ProviderCall] = []
        self.finished: set[str] = set()
        self.delivery_fails = chance.choice((0.0, 0.0, 0.0, 0.01))
        self.slow = chance.choice((0.0, 0.0, 0.0, 0.0, 0.2))
        self.processes: list[Process] = []
        self.ends = 0
        self._runs, self._names = count(), count()
        self.broker.listeners[topics.RECORDS.name].append(self._recorded)
        self.traffic = Traffic(self)
        for _ in range(chance.choice((1, 2, 2, 3))):
            self.start()

    def _recorded(self, record: Stored) -> None:
        if any(name == out.MARK_HEADER for name, _ in record.headers):
            self.finished.add((record.key or b"").decode())
        self.world.tell(f"{record.by}: the record of {(record.key or b'').decode()} is in the log")

    def new_run_id(self) -> str:
        return f"run-{next(self._runs)}"

    def start(self) -> None:
        name = f"worker-{next(self._names)}"
        self.world.tell(f"{name} starts")
        self.processes.append(Process(self, name, self.world.random.choice((0.0, 0.0, -1.5, 2.0))))

    def end(self, process: Process, why: str) -> None:
        """The process is gone; a supervisor starts another."""
        if process.loop.alive:
            self.world.tell(f"{process.name} ends: {why}")
            self.ends += 1
            process.loop.end()
            self.world.later(0.5 + 2 * self.world.random.random(), self.start)

    def leave(self, code: int, why: str) -> NoReturn:
        """In the place of watchdog.leave."""
        for process in self.processes:
            if process.loop is self.world.running:
                self.end(process, f"exit {code}, {why}")
        raise ProcessEnded

    def fault(self, kind: str, steps: int, length_s: float) -> None:
        """Kill or stop one process some steps from now, or start one more."""
        alive = [p for p in self.processes if p.loop.alive and not p.loop.stopped]
        if kind == "join":
            if len(alive) < 4:
                self.start()
        elif alive:
            process = self.world.random.choice(alive)
            process.loop.steps_to_fault = steps, lambda: self._do(kind, process, length_s)

    def _do(self, kind: str, process: Process, length_s: float) -> None:
        if kind == "stop":
            self._stop(process, length_s)
            return
        if kind == "quit":
            # Out of the group soon, so that a storm of rebalances needs no session to run out; not before what it sent has arrived.
            self.world.later(2 * LONGEST_DELAY_S, lambda: self.group.leave(process.name))
        self.end(process, "killed")

    def _stop(self, process: Process, length_s: float) -> None:
        self.world.tell(f"{process.name} is stopped for {length_s:.2f} s")
        process.loop.stopped = True
        self.world.later(length_s, lambda: self._wake(process))

    def _wake(self, process: Process) -> None:
        if process.loop.alive:
            self.world.tell(f"{process.name} wakes")
            process.loop.stopped = False

    def is_quiet(self) -> bool:
        """Whether all that was sent is finished and committed, and nobody is stopped."""
        if self.world.now_s < max(self.traffic.last_s, FAULTS_S) or any(p.loop.alive and p.loop.stopped for p in self.processes):
            return False
        sources = (topics.REQUESTS.name, topics.ADMITTED.name)
        return all(self.broker.committed.get(tp, 0) == len(log) for tp, log in self.broker.log.items() if tp.topic in sources)


@contextmanager
def simulated() -> Iterator[None]:
    """The modules under test see virtual time; a process that leaves ends, and only that; nothing is written to stderr."""
    kept = [(module, module.time) for module in TIMED]
    leave, refuse = watchdog.leave, request_body.refuse_what_is_not_honoured
    hook, was_collecting = sys.unraisablehook, gc.isenabled()
    logger = logging.getLogger("pipeline")
    propagated, silent = logger.propagate, logging.NullHandler()
    logger.addHandler(silent)
    logger.propagate = False
    for module in TIMED:
        module.time = CLOCK.as_module()  # type: ignore[attr-defined]
    # Streams run here whether or not the door lets them in.
    request_body.refuse_what_is_not_honoured = lambda body: None
    # What a killed process leaves behind is closed at some time, and says so.
    sys.unraisablehook = lambda _: None
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            CLOCK.world, watchdog.leave = None, leave
            gc.collect()
    finally:
        for module, time in kept:
            module.time = time  # type: ignore[attr-defined]
        CLOCK.world, watchdog.leave, request_body.refuse_what_is_not_honoured = None, leave, refuse
        if was_collecting:
            gc.enable()
        sys.unraisablehook = hook
        logger.removeHandler(silent)
        logger.propagate = propagated


class _Errors(logging.Handler):
    """What the worker logs as its own fault."""

    def __init__(self, room: Room) -> None:
        super().__init__(logging.ERROR)
        self._room = room
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        self._room.world.tell(f"log: {said} {record.exc_info[1]!r}" if record.exc_info else f"log: {said}")
        if record.exc_info and ("inside the gateway" in said or "admit failed" in said or "could not finish" in said):
            alive = self._room.world.running is not None and self._room.world.running.alive
            if alive:
                self.faults.append(f"{said}: {record.exc_info[1]!r}")


def run(seed: int) -> Result:
    """Run one seed; call it within `simulated()`."""
    room = Room(seed)
    world = CLOCK.world = room.world
    watchdog.leave = room.leave
    errors = _Errors(room)
    logger = logging.getLogger("pipeline.worker")
    logger.addHandler(errors)
    try:
        quiet = world.run(room.is_quiet, LIMIT_S)
        # Whoever still has something to say shall say it.
        until_s = world.now_s + 3.0
        world.run(lambda: world.now_s > until_s, until_s + 1.0)
        found = list(errors.faults)
        if not quiet:
            lag = {f"{tp.topic}[{tp.partition}]": (room.broker.committed.get(tp, 0), len(log)) for tp, log in room.broker.log.items()}
            behind = {place: pair for place, pair in lag.items() if pair[0] != pair[1] and ("requests" in place or "admitted" in place)}
            found.append(f"not quiet after {world.now_s:.0f} s: committed and end of {behind}")
        for process in room.processes:
            found += process.loop.failures
        found += violations(room)
    finally:
        logger.removeHandler(errors)
        for process in room.processes:
            process.loop.end()
    marked = [r.key for r in room.broker.records(topics.RECORDS.name) if any(n == out.MARK_HEADER for n, _ in r.headers)]
    return Result(
        seed, found, world.story, world.steps, len(room.traffic.sent), len(room.calls), room.ends, room.group.generation,
        len(marked) - len(set(marked)),
    )  # fmt: skip


__all__ = ["Result", "run", "simulated"]
