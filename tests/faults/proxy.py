"""A TCP proxy on 127.0.0.1 that does at will what networks do: delays, resets, and connections that look open and lead nowhere.

    with Proxy(target_port) as proxy:       clients connect to proxy.port
        proxy.delay(1.0)                    each chunk arrives a second later, in each direction
        proxy.reset()                       all connections end with RST; new ones are fine
        proxy.lose(lambda number: True)     these connections lead nowhere from now on; new ones are fine
        proxy.swallow()                     all connections lead nowhere, and so do new ones
        proxy.plain()                       new connections are fine

A connection that leads nowhere stays open and silent, whatever comes later, until its client closes it. The proxy runs on a loop of its
own, in a thread, so that a test that blocks does not stop the traffic. It knows nothing of what goes through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any

CHUNK_BYTES = 65_536
# Chunks under way in one direction of one connection; beyond it the sender is not read, as where buffers are full.
MAX_UNDER_WAY = 1_024
LINGER_0 = struct.pack("ii", 1, 0)
WAIT_S = 10.0

# When a chunk is due, by the loop's clock, and the chunk; an empty one is the end.
Chunks = asyncio.Queue[tuple[float, bytes]]


@dataclass(eq=False, slots=True)
class _Connection:
    """`lost`: nothing gets through it any more. `server` is None until the target has taken it."""

    client: asyncio.StreamWriter
    lost: bool
    server: asyncio.StreamWriter | None = None

    def abort(self) -> None:
        """RST to both sides, where they are open still."""
        for side in (self.client, self.server):
            if side is not None and not side.transport.is_closing():
                with contextlib.suppress(OSError):
                    side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
                side.transport.abort()

    async def close(self) -> None:
        """Both have ended their side: what is still to be sent is sent first. An RST could overtake it, and the end too."""
        for side in (self.client, self.server):
            if side is not None:
                side.close()
                await side.wait_closed()


class Proxy:
    """Forwards to 127.0.0.1:`target_port`. `port` is its own; it is taken by the constructor, so that it can be told to others first."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._latency_s, self._swallowing = 0.0, False
        # In the order in which they came.
        self._connections: dict[_Connection, None] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._on_loop(asyncio.start_server(self._serve, sock=self._listening))
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._on_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()
        self._listening.close()

    def plain(self) -> None:
        """Neither delay nor swallow from now on."""
        self._on_loop(self._set(0.0, False))

    def delay(self, latency_s: float) -> None:
        """Each chunk that comes from now on arrives so much later."""
        self._on_loop(self._set(latency_s, False))

    def swallow(self) -> None:
        """All that is sent from now on is lost."""
        self._on_loop(self._set(0.0, True))
        self.lose(lambda number: True)

    def lose(self, which: Callable[[int], bool]) -> int:
        """The present connections that `which` names (numbers from 0, the oldest first) lead nowhere from now on; how many these are."""

        async def make() -> int:
            chosen = [connection for number, connection in enumerate(self._connections) if which(number)]
            for connection in chosen:
                connection.lost = True
            return len(chosen)

        return self._on_loop(make())

    def reset(self) -> int:
        """End all connections with RST; how many there were."""

        async def make() -> int:
            there = list(self._connections)
            for connection in there:
                connection.abort()
            return len(there)

        return self._on_loop(make())

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    async def _set(self, latency_s: float, swallowing: bool) -> None:
        self._latency_s, self._swallowing = latency_s, swallowing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer, self._swallowing)
        self._connections[connection] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                ways = [(reader, writer)]
                if not connection.lost:
                    back, connection.server = await asyncio.open_connection("127.0.0.1", self._target_port)
                    ways = [(reader, connection.server), (back, writer)]
                for source, sink in ways:
                    chunks: Chunks = asyncio.Queue(MAX_UNDER_WAY)
                    tasks.create_task(self._read(connection, source, chunks, from_client=source is reader))
                    tasks.create_task(self._write(connection, chunks, sink))
            await connection.close()
        except* OSError:
            pass  # One side has broken it off, or nobody listens at the target: the other side is told below.
        finally:
            del self._connections[connection]
            connection.abort()

    async def _read(self, connection: _Connection, source: asyncio.StreamReader, chunks: Chunks, from_client: bool) -> None:
        while data := await source.read(CHUNK_BYTES):
            await chunks.put((self._loop.time() + self._latency_s, data))
        if not connection.lost:
            await chunks.put((self._loop.time() + self._latency_s, b""))
        elif from_client:
            raise ConnectionAbortedError

    async def _write(self, connection: _Connection, chunks: Chunks, sink: asyncio.StreamWriter) -> None:
        while True:
            due_s, data = await chunks.get()
            await asyncio.sleep(max(due_s - self._loop.time(), 0.0))
            if connection.lost:
                continue
            if not data:
                sink.write_eof()
                return
            sink.write(data)
            await sink.drain()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
