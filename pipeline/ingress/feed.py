"""What comes for one streaming client, from the reader of replies to the task that writes to the client. Bounded; one reader.

A client that reads too slowly makes its feed fail, not the ingress grow: records beyond the bound are dropped with the error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from pipeline.errors import Unavailable

MAX_BYTES = 8 << 20


class Feed:
    """`take` and `fail` put in, `get` takes out. An error comes after what was there before it."""

    def __init__(self) -> None:
        self._records: deque[tuple[dict[str, Any], int]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._something = asyncio.Event()

    def take(self, record: dict[str, Any], size: int) -> None:
        """The next record, of `size` bytes."""
        if self._error is not None:
            return
        if self._bytes + size > MAX_BYTES:
            self.fail(Unavailable(f"this client reads too slowly: more than {MAX_BYTES} bytes of its answer wait", retry_after_s=1))
            return
        self._records.append((record, size))
        self._bytes += size
        self._something.set()

    def fail(self, error: BaseException) -> None:
        """Nothing more will come; the first reason counts."""
        self._error = self._error or error
        self._something.set()

    async def get(self, timeout_s: float) -> dict[str, Any] | None:
        """The next record, None after `timeout_s` without one; raises what `fail` was given when all before it has been taken."""
        if not self._records and self._error is None:
            self._something.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._something.wait()
            except TimeoutError:
                return None
        if self._records:
            record, size = self._records.popleft()
            self._bytes -= size
            return record
        assert self._error is not None
        raise self._error
