"""One HTTP exchange with the demo provider: the answer whole, byte for byte or as a stream, and the means to be a bad provider.

To break a connection in mid-answer it needs the transport, which server.py puts into the scope under TRANSPORT. A caller that closes the
connection raises CallerGone at the next pause; every event of a stream but the first has one before it, if only for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

TRANSPORT = "sluice.transport"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = b"application/json"
NEVER_S = 3_600.0


class CallerGone(Exception):
    """The caller closed the connection before it had its answer."""


class Exchange:
    """One request and its answer, with the means to be a bad provider."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.status = 0
        self._receive = receive
        self._send = send
        self._gone: asyncio.Future[Any] | None = None

    async def read(self) -> bytes:
        """The whole request body."""
        event = await self._receive()
        if not event.get("more_body"):
            return bytes(event.get("body", b""))
        data = bytearray(event.get("body", b""))
        while event.get("more_body"):
            event = await self._receive()
            data += event.get("body", b"")
        return bytes(data)

    async def pause(self, seconds: float) -> None:
        """Wait; CallerGone as soon as the caller closes the connection."""
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._receive())
        if seconds > 0:
            await asyncio.wait((self._gone,), timeout=seconds)
        else:
            # The loop's turn: what was sent goes out, others go on, and the end of the connection is heard of.
            await asyncio.sleep(0)
        if self._gone.done():
            raise CallerGone

    def cut(self) -> None:
        """Close the connection here and now."""
        self.scope[TRANSPORT].abort()

    async def answer(
        self,
        status: int,
        data: bytes,
        content_type: bytes = JSON,
        *,
        extra: Iterable[tuple[bytes, bytes]] = (),
        drip_s: float = 0.0,
        half: bool = False,
    ) -> None:
        """Send an answer whole, byte for byte with pauses of `drip_s`, or the first half of it only."""
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(data)), *extra]
        await self._start(status, headers)
        if half:
            await self._send({"type": "http.response.body", "body": data[: len(data) // 2], "more_body": True})
            self.scope[TRANSPORT].close()
            return
        if drip_s:
            for i in range(len(data) - 1):
                await self._send({"type": "http.response.body", "body": data[i : i + 1], "more_body": True})
                await self.pause(drip_s)
            data = data[-1:]
        await self._send({"type": "http.response.body", "body": data})

    async def stream(self, events: Iterable[bytes], gap_s: float, end: str | None = None) -> None:
        """Send server-sent events with pauses of `gap_s`; at the end `cut` the connection, `stall` until the caller goes, or just end."""
        await self._start(200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")])
        # No pause after the last: a caller that has read the end may hang up, and has not cut anything off.
        for number, event in enumerate(events):
            if number:
                await self.pause(gap_s)
            await self._send({"type": "http.response.body", "body": event, "more_body": True})
        if end == "stall":
            await self.pause(NEVER_S)
        if end is not None:
            self.scope[TRANSPORT].close()
            return
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
