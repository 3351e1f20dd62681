"""Poison in every topic that is read: no reader stops, nothing is held up, what nobody could read is set aside, the next one is served."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline import topics
from tests.kafka_client import KafkaClient, dead_letter, kafka_client

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

READ_BY_WORKERS = (topics.REQUESTS, topics.ADMITTED, topics.CANCELLATIONS, topics.COMMANDS)
FOLLOWED = (topics.ENDPOINTS, topics.TOKENS)
OTHERS = (topics.RESPONSES, topics.RECORDS, topics.DEAD_LETTERS)
FUTURE = {"v": 99, "schema_version": 99, "request_id": "from-the-future", "op": "paint_endpoint", "name": 7, "status_code": "fine"}
POISON: list[bytes | None] = [
    random.Random(19).randbytes(5_000_000),
    b"",
    None,
    b"\xff\xfe\x00",
    b'"text"',
    b"[" * 100_000,
    json.dumps(FUTURE).encode(),
    json.dumps({"request_id": "of-old", "endpoint": "e"}).encode(),
]


async def lag(bootstrap: str) -> int:
    """Records of the workers' topics that are not committed yet."""
    admin, consumer = AIOKafkaAdminClient(bootstrap_servers=bootstrap), AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        committed = await admin.list_consumer_group_offsets(topics.WORKER_GROUP)
        ends = await consumer.end_offsets([TopicPartition(t.name, p) for t in READ_BY_WORKERS for p in range(t.partitions)])
        starts = await consumer.beginning_offsets(list(ends))
        return sum(end - (committed[place].offset if place in committed else starts[place]) for place, end in ends.items())
    finally:
        await consumer.stop()
        await admin.close()


async def poison(client: KafkaClient, topic: topics.Topic, key: bytes | None) -> list[Any]:
    """All of it, in one partition; where each lies. The client sends no record that has neither key nor value."""
    return [await client.produce(value, key=key if value is not None else b"k", partition=0, topic=topic.name) for value in POISON]


async def test_poison_in_every_topic_stops_nobody_and_the_offsets_go_on(stack: Any) -> None:
    name = "poison-beside"
    table = {"catalog_name": "poison", "schema_name": "tests", "table_name_prefix": "beside", "enabled": True}
    stack.create_endpoint(name, {"inference_table_config": table})
    async with kafka_client(stack.kafka) as client:
        places = {topic.name: await poison(client, topic, None) for topic in (*READ_BY_WORKERS, *OTHERS)}
        for topic in FOLLOWED:
            await poison(client, topic, b"poison-key")
        # Behind the poison, in the partition where that lies.
        request_id = await client.request(name, at_partition=0)
        assert (await client.answer(request_id))["status_code"] == 200
        for topic in FOLLOWED:
            await client.produce(None, key=b"poison-key", partition=0, topic=topic.name)

    # The control agent and both followers read on, too.
    behind = await asyncio.to_thread(stack.create_endpoint, "poison-behind")
    token = await asyncio.to_thread(stack.token, "poisoned@example.com")
    with stack.http(token) as http:
        answer = http.post("/serving-endpoints/poison-behind/invocations", json={"messages": [{"role": "user", "content": "hello"}]})
    assert (behind["name"], answer.status_code) == ("poison-behind", 200)

    deadline_s = time.monotonic() + 30
    while (left := await lag(stack.kafka)) > 0:
        assert time.monotonic() < deadline_s, f"{left} records are not committed"
    for topic_name in (topics.REQUESTS.name, topics.COMMANDS.name):
        for place in places[topic_name]:
            letter = await dead_letter(stack.kafka, place.partition, place.offset, topic=topic_name)
            assert letter["reason"]
    rows = await asyncio.to_thread(stack.wait_rows, "poison.tests.beside_request_response", 1, 120.0)
    assert [row["request_id"] for row in rows] == [request_id]
