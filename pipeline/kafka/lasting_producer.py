"""A producer that outlives its own failures: one that has failed for good is thrown away, and a new one takes its place.

An idempotent producer numbers the records of each partition. A batch that the broker has not taken leaves a gap in the numbers, and all
that follows it in that partition is refused as out of order until the producer's end (aiokafka#1017). A producer whose sending task has
died, or that the broker has fenced off or forgotten, takes nothing either. So every delivery that fails ends its producer: what other
partitions have handed to it is still written (within connection.STOP_S), new records wait for nobody and fail with BeingRenewed until the
next producer is there. Whether a failed record is sent again is its sender's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.kafka.connection import has_died, stop_producer

log = logging.getLogger(__name__)
PAUSE_S = 1.0


class BeingRenewed(KafkaError):  # type: ignore[misc]
    """There is no producer at this moment: the last one has failed, or the end has come."""

    retriable = True


class LastingProducer:
    """`make` makes a producer that is not started; `topics` are known to it before it takes its first record."""

    def __init__(self, make: Callable[[], AIOKafkaProducer], topics: Sequence[str]) -> None:
        self._make, self._topics = make, topics
        self._producer: AIOKafkaProducer | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._producer = await self._started()

    async def stop(self) -> None:
        """Write what waits, within connection.STOP_S, and close."""
        producer, self._producer = self._producer, None
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if producer is not None:
            await stop_producer(producer)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def send(self, topic: str, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Hand a record over as AIOKafkaProducer.send does; the future is its delivery. Raises KafkaError."""
        producer = self._producer
        if producer is None:
            raise BeingRenewed
        try:
            delivery: asyncio.Future[Any] = await producer.send(topic, *args, **kwargs)
        except KafkaError as exc:
            # A sending task that has died while nothing was under way is met by the next record. What the producer refuses by itself
            # (too large, no room) has no number and leaves no gap.
            if has_died(producer):
                self._renew(producer, exc)
            raise
        delivery.add_done_callback(partial(self._settled, producer))
        return delivery

    async def send_and_wait(self, topic: str, *args: Any, **kwargs: Any) -> Any:
        """`send`, and wait for the delivery. Raises KafkaError."""
        return await (await self.send(topic, *args, **kwargs))

    def _settled(self, producer: AIOKafkaProducer, delivery: asyncio.Future[Any]) -> None:
        failure = None if delivery.cancelled() else delivery.exception()
        if failure is not None:
            self._renew(producer, failure)

    def _renew(self, failed: AIOKafkaProducer, failure: BaseException) -> None:
        if failed is not self._producer:
            return
        log.warning("a record could not be produced (%s): this producer is given up and a new one is made", type(failure).__name__)
        self._producer = None
        self._renewing = asyncio.create_task(self._replace(failed), name="renew the producer")

    async def _replace(self, failed: AIOKafkaProducer) -> None:
        ending = asyncio.create_task(stop_producer(failed), name="end the failed producer")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        while True:
            try:
                self._producer = await self._started()
                return
            except KafkaError as exc:
                log.warning("no new producer yet: %s", type(exc).__name__)
                await asyncio.sleep(PAUSE_S)

    async def _started(self) -> AIOKafkaProducer:
        producer = self._make()
        try:
            await producer.start()
            # So that the first record need not wait for the topics' metadata.
            for topic in self._topics:
                await producer.partitions_for(topic)
        except BaseException:
            await stop_producer(producer)
            raise
        return producer
