"""Ends a worker that can't do its work any more, so that the supervisor starts it anew and Kafka delivers again.

Six reasons, each stated on stderr with an exit code of its own:

- STALLED: the event loop stood still (SIGSTOP, a paused machine) for so long that the session may have run out. The partitions can be
  another worker's by then; whatever this one would write now could be written twice.
- STUCK: an event has held up a partition's commit for longer than any request may take.
- UNREAD: a partition has records that have not been read for so long, though there is no rebalance, no recovery, and the broker answers.
- NOT_PRODUCED: a record could not be produced for good.
- PASSED_OVER: records were dropped between the broker and an agent (transport.py).
- SESSION_OVER: the broker has given its partitions away, and something of them was left to write (session.py).

It uses os._exit: a process in such a state must not run handlers that write.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)
Since = dict[Any, tuple[int, float]]
BEAT_S = 0.5
# The session runs from the last heartbeat that the broker has heard, not from the moment when the loop stopped: heartbeats come four times
# in a session, and one may have been on its way. Half of it is left to stand still in.
SAFE_SHARE = 0.5
STALLED, STUCK, NOT_PRODUCED, UNREAD, PASSED_OVER, SESSION_OVER = 70, 71, 72, 73, 74, 75
# Where records end is asked of the broker, not of what was fetched: a consumer that fetches nothing learns nothing.
LOOK_S = 5.0
# Reading waits for a stream's full buffer at the longest, and that moves with each event that is handled.
UNREAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A partition with records that are not finished: its first one, the last one that was read, and where the next will be written."""

    head: int
    read: int
    end: int


def leave(code: int, why: str) -> None:
    """End the process at once."""
    sys.stderr.write(f"worker ends (exit {code}): {why}\n")
    sys.stderr.flush()
    os._exit(code)


class Watchdog:
    """`session_timeout_s`: how long the broker waits for this member; `stuck_s`: longer than any request can take."""

    def __init__(self, session_timeout_s: float, stuck_s: float) -> None:
        self._longest_stall_s, self._stuck_s = session_timeout_s * SAFE_SHARE, stuck_s
        self._beat_s = time.monotonic()
        self._broker_answers = True
        # Partition -> an offset, and since when it is that one.
        self._held: Since = {}
        self._heads: Since = {}
        self._reads: Since = {}

    def may_write(self) -> None:
        """Called before each write: ends the process where the loop has stood still for so long that its session may be over."""
        stood_s = time.monotonic() - self._beat_s
        if stood_s > self._longest_stall_s:
            leave(STALLED, f"the event loop stood still for {stood_s:.1f} s; after {self._longest_stall_s:g} s its session may be over")

    async def run(self, consumer: Any) -> None:
        """Beat, and look for a partition whose commit does not move although later events are finished and the broker answers."""
        while True:
            self.may_write()
            self._beat_s = time.monotonic()
            self._look_at(consumer.unfinished() if self._broker_answers else {}, self._beat_s)
            await asyncio.sleep(BEAT_S)

    async def watch_reading(self, consumer: Any, is_settling: Callable[[], bool]) -> None:
        """Look for a partition whose records are not read, or not finished. Nothing counts while `is_settling()` (a rebalance, a recovery),
        nor while the broker does not answer."""
        while True:
            waiting = {}
            try:
                async with asyncio.timeout(LOOK_S):
                    waiting = await consumer.waiting()
                self._broker_answers = True
            except Exception as exc:  # whatever it is, it says nothing of the records
                log.info("how far the topics go could not be asked: %s", type(exc).__name__)
                self._broker_answers = False
            self._look_at_waiting({} if is_settling() else waiting, time.monotonic())
            await asyncio.sleep(LOOK_S)

    def _look_at(self, unfinished: dict[Any, int], now_s: float) -> None:
        self._held = _since(self._held, unfinished, now_s)
        self._leave_if_stuck(self._held, now_s)

    def _look_at_waiting(self, waiting: dict[Any, Waiting], now_s: float) -> None:
        self._heads = _since(self._heads, {tp: place.head for tp, place in waiting.items()}, now_s)
        self._leave_if_stuck(self._heads, now_s)
        unread = {tp: place.read for tp, place in waiting.items() if place.read + 1 < place.end}
        self._reads = _since(self._reads, unread, now_s)
        for tp, (read, since_s) in self._reads.items():
            if now_s - since_s > UNREAD_S:
                place = f"{tp.topic}[{tp.partition}]"
                leave(
                    UNREAD, f"{waiting[tp].end - 1 - read} records of {place} after offset {read} were not read in {now_s - since_s:.0f} s"
                )

    def _leave_if_stuck(self, heads: Since, now_s: float) -> None:
        for tp, (offset, since_s) in heads.items():
            if now_s - since_s > self._stuck_s:
                leave(STUCK, f"offset {offset} of {tp.topic}[{tp.partition}] is unfinished after {now_s - since_s:.0f} s")


def _since(before: Since, offsets: dict[Any, int], now_s: float) -> Since:
    """Since when each partition's offset is what it is."""
    return {tp: before[tp] if tp in before and before[tp][0] == offset else (offset, now_s) for tp, offset in offsets.items()}
