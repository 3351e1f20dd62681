"""A plain Kafka program, as the contract's part 3 lets anybody write one: produces requests, reads answers. No header, no key needed."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

MAX_BYTES = 17 * 1024 * 1024


class KafkaClient:
    """Answers are kept by request id, in the order in which they came."""

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self._producer, self._consumer = producer, consumer
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self._arrived = asyncio.Condition()

    async def produce(
        self, value: bytes | None, *, key: bytes | None = None, partition: int | None = None, topic: str = "gateway.requests",
        created_ms: int | None = None,
    ) -> Any:  # fmt: skip
        """Put bytes on a topic and wait for the broker; returns the record's metadata (partition, offset, timestamp). `created_ms` is what
        the record says of its time, now unless given."""
        return await self._producer.send_and_wait(topic, value, key=key, partition=partition, timestamp_ms=created_ms)

    async def request(self, endpoint: str, user: str = "alice@example.com", *, text: str = "hello", **fields: Any) -> str:
        """Produce a request and return its id. `fields` replace or add fields of the record; key and partition are as a plain
        producer would choose them (key = endpoint name)."""
        partition, created_ms = fields.pop("at_partition", None), fields.pop("created_ms", None)
        record = {
            "request_id": str(uuid.uuid4()), "endpoint": endpoint, "user": user, "task": "llm/v1/chat",
            "body": {"messages": [{"role": "user", "content": text}]}, **fields,
        }  # fmt: skip
        await self.produce(json.dumps(record).encode(), key=endpoint.encode(), partition=partition, created_ms=created_ms)
        return str(record["request_id"])

    async def answer(self, request_id: str, timeout_s: float = 60, *, count: int = 1) -> dict[str, Any]:
        """The `count`-th answer under `request_id`. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.answers.get(request_id, ())) >= count)
        return self.answers[request_id][count - 1]

    async def answered(self, request_ids: list[str], timeout_s: float = 120) -> list[dict[str, Any]]:
        """The first answers of all of them. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: all(i in self.answers for i in request_ids))
        return [self.answers[i][0] for i in request_ids]

    async def read(self) -> None:
        """Collect answers until cancelled."""
        async for record in self._consumer:
            try:
                request_id, answer = (record.key or b"").decode(), json.loads(record.value or b"")
            except (ValueError, RecursionError):
                continue  # Tests put bytes there that are no answer.
            async with self._arrived:
                self.answers.setdefault(request_id, []).append(answer)
                self._arrived.notify_all()


@asynccontextmanager
async def kafka_client(bootstrap: str) -> AsyncIterator[KafkaClient]:
    """A connected client that reads all of gateway.responses from now on."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=MAX_BYTES, acks="all")
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=50, max_partition_fetch_bytes=MAX_BYTES)
    await producer.start()
    await consumer.start()
    places = [TopicPartition("gateway.responses", p) for p in sorted(await producer.partitions_for("gateway.responses"))]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for place in places:
        await consumer.position(place)
    client = KafkaClient(producer, consumer)
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await producer.stop()
        await consumer.stop()


async def dead_letter(
    bootstrap: str, partition: int, offset: int, timeout_s: float = 30, *, topic: str = "gateway.requests"
) -> dict[str, Any]:
    """The dead letter of the record at this place. Raises TimeoutError where there is none."""
    consumer = AIOKafkaConsumer("gateway.dead-letters", bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest",
                                max_partition_fetch_bytes=MAX_BYTES)  # fmt: skip
    await consumer.start()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    letter = json.loads((await consumer.getone()).value or b"")
                    place = letter["topic"], letter["partition"], letter["offset"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # Tests put bytes there that are no letter.
                if place == (topic, partition, offset):
                    return dict(letter)
    finally:
        await consumer.stop()
