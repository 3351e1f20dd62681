"""Records on their way to aiokafka's buffer: which have begun and have not arrived, and when all have that had begun by now.

A commit waits for what was handed over before it, and for nothing that comes later: under a steady load something is on its way at every
moment, and a commit that waited for a moment without would never come. Asks no broker; fails only as the sending itself does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from faust.transport.producer import ProducerBuffer


class HandingOver:
    """Numbers what begins, in that order."""

    def __init__(self) -> None:
        self._next = 0
        # In the order of their beginning, so that the first is the oldest.
        self._on_the_way: dict[int, None] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._on_the_way)

    def begin(self) -> int:
        """A record sets out; its number."""
        number = self._next
        self._next += 1
        self._on_the_way[number] = None
        return number

    def end(self, number: int) -> None:
        """It has arrived, or never will."""
        del self._on_the_way[number]
        self._arrived.set()

    async def all_so_far(self) -> None:
        """Return when everything has ended that had begun at the time of this call."""
        end = self._next
        while self._on_the_way and next(iter(self._on_the_way)) < end:
            self._arrived.clear()
            await self._arrived.wait()


class CountedBuffer(ProducerBuffer):
    """Faust's buffer for what the tables write; its records are on their way from the moment they are put into it."""

    def __init__(self, handing_over: HandingOver, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._handing_over = handing_over
        self._numbers: deque[int] = deque()

    def put(self, fut: Any) -> None:
        """As Faust's."""
        self._numbers.append(self._handing_over.begin())
        super().put(fut)

    async def _send_pending(self, fut: Any) -> None:
        try:
            await super()._send_pending(fut)
        finally:
            self._handing_over.end(self._numbers.popleft())
