"""What was fetched and not read is let go without the collector. The second test says so when aiokafka does that by itself."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords

from pipeline.kafka.fetched import forget_fetched

HERE, ELSEWHERE, BROKEN = (TopicPartition("gateway.records", number) for number in range(3))


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def a_consumer() -> tuple[Any, dict[TopicPartition, Any]]:
    """A consumer that has fetched from two places, and weak references to what it has."""
    fetched: dict[TopicPartition, Any] = {BROKEN: FetchError(error=OSError(), backoff=0)}
    alive = {}
    for place in (HERE, ELSEWHERE):
        records = PartitionRecords(place, MemoryRecords(b""), [], 0, None, None, True, 0)
        alive[place] = weakref.ref(records)
        fetched[place] = FetchResult(place, assignment=None, partition_records=records, backoff=0)
    return SimpleNamespace(_fetcher=SimpleNamespace(_records=fetched)), alive


def test_what_was_fetched_of_a_place_is_gone_at_once_and_the_rest_stays() -> None:
    consumer, alive = a_consumer()
    forget_fetched(consumer, [HERE, BROKEN, TopicPartition("gateway.records", 9)])
    assert alive[HERE]() is None
    assert alive[ELSEWHERE]() is not None
    assert list(consumer._fetcher._records) == [ELSEWHERE]


def test_dropped_by_itself_it_would_wait_for_the_collector() -> None:
    consumer, alive = a_consumer()
    consumer._fetcher._records.clear()
    assert alive[HERE]() is not None
