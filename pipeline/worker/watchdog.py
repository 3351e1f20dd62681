"""Ends a worker that can't do its work any more, so that the supervisor starts it anew and Kafka delivers again.

Five reasons, each stated on stderr with an exit code of its own:

- STALLED: the event loop stood still (SIGSTOP, a paused machine) for so long that the session may have run out. The partitions can be
  another worker's by then; whatever this one would write now could be written twice.
- STUCK: an event has held up a partition's commit for longer than any request may take.
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
from typing import Any

log = logging.getLogger(__name__)
BEAT_S = 0.5
# The session runs from the last heartbeat that the broker has heard, not from the moment when the loop stopped: heartbeats come four times
# in a session, and one may have been on its way. Half of it is left to stand still in.
SAFE_SHARE = 0.5
STALLED, STUCK, NOT_PRODUCED, PASSED_OVER, SESSION_OVER = 70, 71, 72, 73, 74


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
        self._held: dict[Any, tuple[int, float]] = {}

    def may_write(self) -> None:
        """Called before each write: ends the process where the loop has stood still for so long that its session may be over."""
        stood_s = time.monotonic() - self._beat_s
        if stood_s > self._longest_stall_s:
            leave(STALLED, f"the event loop stood still for {stood_s:.1f} s; after {self._longest_stall_s:g} s its session may be over")

    async def run(self, consumer: Any) -> None:
        """Beat, and look for a partition whose commit does not move although later events are finished."""
        while True:
            self.may_write()
            self._beat_s = time.monotonic()
            self._look_at(consumer.unfinished(), self._beat_s)
            await asyncio.sleep(BEAT_S)

    def _look_at(self, unfinished: dict[Any, int], now_s: float) -> None:
        self._held = {
            tp: (offset, self._held[tp][1] if tp in self._held and self._held[tp][0] == offset else now_s)
            for tp, offset in unfinished.items()
        }
        for tp, (offset, since_s) in self._held.items():
            if now_s - since_s > self._stuck_s:
                leave(STUCK, f"offset {offset} of {tp.topic}[{tp.partition}] is unfinished after {now_s - since_s:.0f} s")
