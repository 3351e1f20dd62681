"""The answers' way back: who waits for which request id, and the reader of this ingress' partition of gateway.responses.

The reader belongs to no consumer group: its position is fixed at the partition's end before the ingress is ready, so no
answer to a request of this process can be missed, and answers of others (ingresses may share a partition) are passed by.
Late and double answers find nobody and do no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.errors import AlreadyExists, SluiceError, Unavailable
from pipeline.ingress.feed import Feed
from pipeline.kafka.connection import MAX_REQUEST_BYTES, client_options, stop_consumer
from pipeline.settings import Settings

log = logging.getLogger(__name__)
Answer = dict[str, Any]


@dataclass(slots=True)
class _Entry:
    digest: bytes
    futures: list[asyncio.Future[Answer]] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)


class Waiting:
    """Request id -> those who wait for its answer. Bounded; everybody who joins must leave."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._entries: dict[bytes, _Entry] = {}

    def join(self, request_id: str, digest: bytes = b"") -> tuple[asyncio.Future[Answer], bool]:
        """A future of the whole answer, and whether this is the id's first waiter, who has to send the request.

        Raises Unavailable when too many wait, and AlreadyExists where the same id is under way with another body (`digest`).
        """
        entry = self._enter(request_id, digest)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        entry.futures.append(future)
        return future, len(entry.futures) == 1

    def follow(self, request_id: str, digest: bytes = b"") -> Feed:
        """All that comes for the request, piece by piece. Everybody who follows sends the request: pieces are for the first asker only,
        all others get the answer whole. Raises as `join`."""
        entry = self._enter(request_id, digest)
        feed = Feed()
        entry.feeds.append(feed)
        return feed

    def _enter(self, request_id: str, digest: bytes) -> _Entry:
        if self.count >= self._limit:
            raise Unavailable(f"this ingress holds {self._limit} requests already, its limit; try again", retry_after_s=1)
        entry = self._entries.get(request_id.encode())
        if entry is None:
            entry = self._entries[request_id.encode()] = _Entry(digest)
        elif entry.digest != digest:
            raise AlreadyExists("this Idempotency-Key is in use for a request with another body; use a new key for a new request")
        self.count += 1
        return entry

    def leave(self, request_id: str, waiter: asyncio.Future[Answer] | Feed) -> bool:
        """Stop waiting; True where nobody waits for this id any more."""
        key = request_id.encode()
        entry = self._entries.get(key)
        if entry is None:
            return True
        if isinstance(waiter, Feed):
            if waiter not in entry.feeds:
                return False
            entry.feeds.remove(waiter)
        else:
            if waiter not in entry.futures:
                return False
            entry.futures.remove(waiter)
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen, else asyncio reports an error that nobody waited for
        self.count -= 1
        if entry.futures or entry.feeds:
            return False
        del self._entries[key]
        return True

    @contextlib.contextmanager
    def expecting(self, request_id: str) -> Iterator[asyncio.Future[Answer]]:
        """`join` and `leave` around a block."""
        future, _ = self.join(request_id)
        try:
            yield future
        finally:
            self.leave(request_id, future)

    def __contains__(self, request_id: bytes) -> bool:
        return request_id in self._entries

    def resolve(self, request_id: bytes, record: Answer, size: int = 0) -> None:
        """Give a record of `size` bytes to everybody who waits for it; nobody is fine."""
        entry = self._entries.get(request_id)
        if entry is None:
            return
        for feed in entry.feeds:
            feed.take(record, size)
        if "body" in record:
            for future in entry.futures:
                if not future.done():
                    future.set_result(record)

    def fail(self, request_id: str, error: SluiceError) -> None:
        """Tell everybody who waits for this id that no answer will come."""
        entry = self._entries.get(request_id.encode())
        if entry is None:
            return
        # One exception each: raising one object in several tasks mixes their tracebacks.
        for feed in entry.feeds:
            feed.fail(type(error)(error.message, retry_after_s=error.retry_after_s))
        for future in entry.futures:
            if not future.done():
                future.set_exception(type(error)(error.message, retry_after_s=error.retry_after_s))


def decode(value: bytes) -> Answer | None:
    """A whole answer (it has a `body`), a piece of a stream (`chunk`) or its end, with what the ingress relies on in the right types; None
    for anything else."""
    try:
        record = orjson.loads(value)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("run_id", ""), str):
        return None
    if "chunk" in record:
        chunk, head = record["chunk"], record.get("head")
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        good = isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices) and isinstance(head, dict | None)
        return record if good and _counts(record.get("sequence")) else None
    status_code = record.get("status_code")
    if type(status_code) is not int or not 200 <= status_code <= 599:
        return None
    if isinstance(record.get("body"), dict):
        return record
    return record if record.get("final") is True and _counts(record.get("sequence")) and "body" not in record else None


def _counts(number: Any) -> bool:
    return type(number) is int and number >= 0


class ReplyReader:
    """Reads `settings.reply_partition` of gateway.responses into a Waiting."""

    def __init__(self, settings: Settings, waiting: Waiting) -> None:
        self._settings, self._waiting = settings, waiting
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the position is fixed and somebody reads."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Fix the position and read from there on. Raises KafkaError, or Unavailable where there is no such partition."""
        self._consumer = AIOKafkaConsumer(
            **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="latest",
            fetch_max_wait_ms=500, max_partition_fetch_bytes=MAX_REQUEST_BYTES,
        )  # fmt: skip
        await self._consumer.start()
        number = self._settings.reply_partition
        if number not in (self._consumer.partitions_for_topic(topics.RESPONSES.name) or range(topics.REPLY_PARTITIONS)):
            raise Unavailable(f"{topics.RESPONSES.name} has no partition {number}; set SLUICE_REPLY_PARTITION to one that it has")
        partition = TopicPartition(topics.RESPONSES.name, number)
        self._consumer.assign([partition])
        await self._consumer.seek_to_end(partition)
        await self._consumer.position(partition)
        self._task = asyncio.create_task(self._run(), name="read replies")

    async def stop(self) -> None:
        """Stop reading."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer:
            await stop_consumer(self._consumer)

    async def _run(self) -> None:
        assert self._consumer is not None
        while True:
            try:
                batches = await self._consumer.getmany(timeout_ms=1_000)
            except KafkaError as exc:
                log.warning("reading %s: %s; trying again", topics.RESPONSES.name, type(exc).__name__)
                await asyncio.sleep(0.2)
                continue
            for records in batches.values():
                for record in records:
                    # By key first: answers of other ingresses are not worth decoding.
                    if record.key in self._waiting:
                        self._take(record.key, record.value)

    def _take(self, request_id: bytes, value: bytes | None) -> None:
        answer = decode(value or b"")
        if answer is None:
            log.warning(
                "an answer to request %s on %s cannot be read; ignored", request_id.decode("ascii", "replace"), topics.RESPONSES.name
            )
            return
        self._waiting.resolve(request_id, answer, len(value or b""))
