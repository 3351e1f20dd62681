"""Records read again by their offsets: the right ones, many in one pass, and nothing of what was fetched beside them stays in memory."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.consumer.fetcher import PartitionRecords

from pipeline.settings import Settings
from pipeline.worker import stored
from pipeline.worker.stored import FETCH_BYTES, StoredRecords

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]
COUNT, BIG = 2_000, 1_500
PARTITIONS = (0, 1)


def value(partition: int, offset: int) -> bytes:
    size = 4 * FETCH_BYTES if (partition, offset) == (1, BIG) else 2_500
    return f"{partition}/{offset} ".encode().ljust(size, b"x")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def records(stack: Any) -> AsyncIterator[StoredRecords]:
    topic = f"stored-{uuid.uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, len(PARTITIONS), 1)])
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, max_request_size=8 * FETCH_BYTES) as producer:
        for partition in PARTITIONS:
            sent = [await producer.send(topic, value(partition, offset), partition=partition) for offset in range(COUNT)]
            await asyncio.gather(*sent)
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=10)})
    await admin.close()
    kept, stored.RECORDS = stored.RECORDS, SimpleNamespace(name=topic)  # type: ignore[assignment]
    reader = StoredRecords(Settings(kafka=stack.kafka))
    await reader.start()
    yield reader
    await reader.stop()
    stored.RECORDS = kept


async def read(records: StoredRecords, places: list[tuple[int, int]]) -> None:
    found = await asyncio.gather(*(records.read(*place) for place in places))
    assert found == [value(*place) for place in places]


@pytest.mark.parametrize("step", [1, 7, 400])
async def test_records_that_are_wanted_at_once_are_read_in_one_pass(records: StoredRecords, step: int) -> None:
    async with asyncio.timeout(10):
        await read(records, [(partition, offset) for offset in range(10, COUNT, step) for partition in PARTITIONS])


async def test_the_same_record_twice_and_one_larger_than_a_fetch(records: StoredRecords) -> None:
    await read(records, [(0, 50), (1, BIG), (0, 50), (1, BIG - 1), (1, BIG + 1), (1, COUNT - 1)])


async def test_a_record_that_is_gone_is_none(records: StoredRecords) -> None:
    assert await asyncio.gather(records.read(0, 3), records.read(0, 10)) == [None, value(0, 10)]


async def test_what_was_fetched_and_not_read_is_let_go(records: StoredRecords) -> None:
    gc.collect()
    gc.disable()
    try:
        for offset in range(20, 50):
            await read(records, [(1, offset)])
        left = [one for one in gc.get_objects() if isinstance(one, PartitionRecords)]
    finally:
        gc.enable()
    # One may be on its way.
    assert len(left) <= 1
