"""Follows a compacted topic: the newest value of each key, in memory, as it changes.

Ingress and workers follow `gateway.endpoints` and `gateway.tokens` this way. A record that can't be read never stops the
follower: the last good value stays, and `bad` tells which key and why. It only reads; it decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.kafka.connection import MAX_REQUEST_BYTES, client_options, stop_consumer
from pipeline.settings import Settings
from pipeline.topics import Topic

log = logging.getLogger(__name__)
KEPT_REVISIONS = 16
# The one writer of a followed topic writes the number of the change here; in a deletion it stands nowhere else.
REVISION_HEADER = "sluice-revision"


class Revised(Protocol):
    """What a follower can hold: anything that says which change made it."""

    @property
    def revision(self) -> int: ...


T = TypeVar("T", bound=Revised)


class Follower(Generic[T]):
    """`decode` turns a record's value into a T and raises ValueError (pydantic's included) on a bad one."""

    def __init__(self, settings: Settings, topic: Topic, decode: Callable[[bytes], T]) -> None:
        self.bad: dict[str, str] = {}
        self._settings, self._topic, self._decode = settings, topic, decode
        self._seen_revision = 0
        self._position = 0
        self._newest: dict[str, T] = {}
        self._history: dict[str, dict[int, T]] = {}
        self._changed = asyncio.Condition()
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None

    def get(self, key: str, revision: int = 0) -> T | None:
        """The value of `key`: of that revision where it is still remembered (a deleted key's too), else the newest, or None."""
        if revision:
            of_revision = self._history.get(key, {}).get(revision)
            if of_revision is not None:
                return of_revision
        return self._newest.get(key)

    def all(self) -> list[T]:
        """The newest value of every key, sorted by key."""
        return [self._newest[key] for key in sorted(self._newest)]

    def items(self) -> list[tuple[str, T]]:
        """Every key with its newest value, sorted by key."""
        return [(key, self._newest[key]) for key in sorted(self._newest)]

    async def start(self) -> None:
        """Connect and read up to the present end; returns when `get` tells the truth. Raises KafkaError."""
        self._consumer = AIOKafkaConsumer(
            **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=100, max_partition_fetch_bytes=MAX_REQUEST_BYTES,
        )  # fmt: skip
        await self._consumer.start()
        partition = TopicPartition(self._topic.name, 0)
        self._consumer.assign([partition])
        await self._consumer.seek_to_beginning(partition)
        end = (await self._consumer.end_offsets([partition]))[partition]
        self._position = await self._consumer.position(partition)
        while self._position < end:
            await self._read_some()
        self._task = asyncio.create_task(self._run(), name=f"follow {self._topic.name}")

    async def stop(self) -> None:
        """Stop following."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer:
            await stop_consumer(self._consumer)

    async def catch_up(self, timeout_s: float = 10.0) -> None:
        """Wait until everything that was in the topic when this was called has been read. Raises TimeoutError, KafkaError."""
        assert self._consumer is not None
        partition = TopicPartition(self._topic.name, 0)
        end = (await self._consumer.end_offsets([partition]))[partition]
        if not await self.wait_until(lambda: self._position >= end, timeout_s):
            raise TimeoutError(f"{self._topic.name} could not be read to its end in {timeout_s} s")

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `condition()`, looked at after each change; False where `timeout_s` passed first."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(condition)
            return True
        except TimeoutError:
            return False

    async def wait_for_revision(self, key: str, revision: int, timeout_s: float) -> bool:
        """Wait until the change `revision` of `key` has been read here; later changes of other keys prove it too."""
        if self._reached(key, revision):
            return True
        return await self.wait_until(lambda: self._reached(key, revision), timeout_s)

    def _reached(self, key: str, revision: int) -> bool:
        if self._seen_revision >= revision:
            return True
        value = self._newest.get(key)
        return value is not None and value.revision >= revision

    async def _run(self) -> None:
        while True:
            try:
                await self._read_some()
            except KafkaError as exc:
                log.warning("following %s: %s; trying again", self._topic.name, exc)
                await asyncio.sleep(0.5)

    async def _read_some(self) -> None:
        assert self._consumer is not None
        batches = await self._consumer.getmany(timeout_ms=1_000)
        async with self._changed:
            for records in batches.values():
                for record in records:
                    self._take((record.key or b"").decode("utf-8", "replace"), record.value)
                    self._position = record.offset + 1
                    self._seen_revision = max(self._seen_revision, _revision_of(record.headers))
            self._changed.notify_all()

    def _take(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._newest.pop(key, None)
            self.bad.pop(key, None)
            return
        try:
            decoded = self._decode(value)
        except ValueError as exc:
            # The reason without the input: a bad record may hold anything.
            reason = f"{type(exc).__name__} ({getattr(exc, 'error_count', lambda: 1)()} errors)"
            log.error("%s holds a bad record for %r: %s; the last good one stays in force", self._topic.name, key, reason)
            self.bad[key] = reason
            return
        self.bad.pop(key, None)
        self._newest[key] = decoded
        history = self._history.setdefault(key, {})
        history[decoded.revision] = decoded
        while len(history) > KEPT_REVISIONS:
            del history[min(history)]


def _revision_of(headers: Sequence[tuple[str, bytes]]) -> int:
    for name, value in headers:
        if name == REVISION_HEADER and value.isdigit():
            return int(value)
    return 0
