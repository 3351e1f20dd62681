"""What an aiokafka consumer has fetched and nobody has read: let go of it, where the consumer is about to read elsewhere.

aiokafka 0.14 ties each fetched response, up to megabytes, into a cycle that ends only with its last record (`PartitionRecords`). Dropped
before that it waits for Python's collector, which comes seldom here (pipeline/garbage.py): a worker that read single records of a long log
grew by tens of megabytes a second. Decides nothing; reaches into the fetcher, and fails loudly where that has changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition


def forget_fetched(consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
    """Drop what was fetched of `places` and not read; it is fetched again where it is asked for again."""
    fetched = consumer._fetcher._records
    for place in places:
        records = getattr(fetched.pop(place, None), "_partition_records", None)
        if records is not None:
            records._records_iterator = None
