"""The pieces of one streamed answer on their way to the reply topic: joined, numbered, and held back until there is something to say.

    put(chunk) ──> nothing goes out before a chunk that says something ──> the first goes at once, later ones are joined for JOIN_S
    close()    ──> what still waits goes out

Until the first piece is out the stream has not `begun`: `forget` drops what waits, and another served entity may be asked. A piece is
not waited for: all go to one partition in order, and the end, which is waited for, comes after them. Where the request has become another
worker's nothing is written any more. Failures of the producer raise from `put` and `close`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline.core.outcome import Outcome, stream_head
from pipeline.core.together import Together, can_be_joined, says_something
from pipeline.envelope import Envelope
from pipeline.errors import ProviderFailed
from pipeline.records import StreamPiece
from pipeline.worker.out import Out, encoded, fits
from pipeline.worker.ownership import Ownership

# A record for each token is more than a worker can produce.
JOIN_S = 0.025


class Pieces:
    """The stream of one run of one request; `outcome` tells who serves it, and is told when the first piece goes out."""

    def __init__(self, out: Out, ownership: Ownership, partition: int, envelope: Envelope, run_id: str, outcome: Outcome) -> None:
        self._out, self._ownership, self._partition = out, ownership, partition
        self._envelope, self._run_id, self._outcome = envelope, run_id, outcome
        self._waiting: list[dict[str, Any]] = []
        self._speaks = False
        self._sent_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self.sequence = 0

    @property
    def begun(self) -> bool:
        """Whether a piece has gone out, so that no other answer can be given any more."""
        return self.sequence > 0

    async def put(self, chunk: dict[str, Any]) -> None:
        """Send the chunk, now or joined with the next ones."""
        self._waiting.append(chunk)
        self._speaks = self._speaks or says_something(chunk)
        if not self._speaks or self._timer is not None:
            return
        if self._flush is not None:
            self._flush.result() if self._flush.done() else await self._flush
            self._flush = None
        loop = asyncio.get_running_loop()
        wait_s = self._sent_s + JOIN_S - loop.time()
        if wait_s <= 0:
            await self._send()
        else:
            self._timer = loop.call_later(wait_s, self._start_flush)

    def forget(self) -> None:
        """Drop what has not gone out: the served entity failed before it said anything."""
        self._waiting.clear()
        self._speaks = False

    async def close(self) -> None:
        """Send what still waits."""
        self.cancel()
        if self._flush is not None:
            await self._flush
        await self._send()

    def cancel(self) -> None:
        """Send nothing by itself any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_flush(self) -> None:
        self._timer = None
        self._flush = asyncio.create_task(self._send())

    async def _send(self) -> None:
        async with self._one_at_a_time:
            waiting, self._waiting = self._waiting, []
            for chunk in _joined(waiting):
                if not await self._ownership.settled(self._partition):
                    return
                head = None
                if not self.begun:
                    head = stream_head(self._envelope, self._outcome)
                    self._outcome.time_to_first_token_ms = max(0, self._out.now_ms() - self._envelope.appended_ms)
                piece = StreamPiece.model_construct(
                    request_id=self._envelope.request_id, run_id=self._run_id, sequence=self.sequence, chunk=chunk, head=head
                )
                if not fits(encoded(piece)):
                    raise ProviderFailed("the served entity sent a piece that is larger than the gateway passes on")
                self.sequence += 1
                await self._out.answer(self._envelope, piece)
            self._sent_s = asyncio.get_running_loop().time()


def _joined(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As few chunks as can say the same."""
    if len(chunks) < 2:
        return chunks
    made: list[dict[str, Any]] = []
    together = Together()
    for chunk in chunks:
        if can_be_joined(chunk):
            together.add(chunk)
            continue
        if together:
            made.append(together.chunk())
            together = Together()
        made.append(chunk)
    return [*made, together.chunk()] if together else made
