"""How far a consumer group is behind on some topics: what it has committed, and where the topics end.

It asks with one client of its own, which belongs to no group and fetches nothing, and with the admin client it is given. It only reads;
what a distance means is decided elsewhere (core/backlog.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.kafka.connection import client_options, stop_consumer
from pipeline.settings import Settings
from pipeline.topics import Topic


@dataclass(frozen=True, slots=True)
class Place:
    """`committed`: the first record that is not finished; `end`: where the next one will be written."""

    committed: int
    end: int


class GroupLag:
    """The group's places in all partitions of `topics`."""

    def __init__(self, settings: Settings, group: str, topics: Sequence[Topic]) -> None:
        self._settings, self._group = settings, group
        self._partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._consumer = AIOKafkaConsumer(**client_options(self._settings), group_id=None, enable_auto_commit=False)
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer:
            await stop_consumer(self._consumer)

    async def read(self, admin: AIOKafkaAdminClient) -> dict[TopicPartition, Place]:
        """Where the group is now. Raises KafkaError; waits for the broker for as long as that takes."""
        assert self._consumer is not None
        # What is committed first: what is finished meanwhile then counts as waiting, and nothing as finished before it came.
        committed = await admin.list_consumer_group_offsets(self._group, partitions=self._partitions)
        begins, ends = await asyncio.gather(
            self._consumer.beginning_offsets(self._partitions), self._consumer.end_offsets(self._partitions)
        )
        # Nobody waits for what retention has deleted, whether or not it was committed.
        return {
            tp: Place(max(begins[tp], committed[tp].offset if tp in committed else -1), ends[tp])
            for tp in self._partitions
            if tp in begins and tp in ends
        }
