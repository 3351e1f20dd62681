"""How many provider calls may be under way for one endpoint, so that a slow one leaves room for the others.

A call takes a slot or waits for one. Where too many wait already it is refused at once with Unavailable (503, retry-after), since a
longer queue would only turn the refusal into a timeout; one whose deadline passes while it waits gets DeadlineExceeded. Used
from the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.errors import DeadlineExceeded, Unavailable


class Slots:
    """`per_endpoint` calls at once, `queued` waiting for each endpoint."""

    def __init__(self, per_endpoint: int, queued: int) -> None:
        self._per_endpoint, self._queued = per_endpoint, queued
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._waiting: dict[str, int] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def take(self, endpoint: str, timeout_s: float) -> AsyncIterator[None]:
        """A slot of `endpoint` for as long as the block runs; Unavailable where too many wait, or none is free in `timeout_s`."""
        slot = self._slots.setdefault(endpoint, asyncio.Semaphore(self._per_endpoint))
        waiting = self._waiting.get(endpoint, 0)
        if slot.locked() and waiting >= self._queued:
            raise Unavailable(
                f"endpoint '{endpoint}' has {self._per_endpoint} calls under way and {waiting} waiting on this worker; "
                "try again shortly, or add workers",
                retry_after_s=1,
            )
        self._users[endpoint] = self._users.get(endpoint, 0) + 1
        self._waiting[endpoint] = waiting + 1
        try:
            try:
                if slot.locked():
                    async with asyncio.timeout(timeout_s):
                        await slot.acquire()
                else:
                    await slot.acquire()
            except TimeoutError:
                raise DeadlineExceeded(f"the deadline passed while waiting for one of endpoint '{endpoint}''s calls to end") from None
            finally:
                self._waiting[endpoint] -= 1
            try:
                yield
            finally:
                slot.release()
        finally:
            self._users[endpoint] -= 1
            if not self._users[endpoint]:
                # The last one out forgets the endpoint, so that deleted ones leave nothing behind.
                for state in (self._users, self._waiting, self._slots):
                    state.pop(endpoint, None)
