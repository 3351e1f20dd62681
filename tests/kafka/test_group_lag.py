"""Where a group is: what was never committed, and what retention has deleted, waits for nobody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from pipeline.kafka.group_lag import GroupLag, Place
from pipeline.settings import Settings
from pipeline.topics import Topic

TOPIC = Topic("t", "-", 4, 1_000)
PLACES = [TopicPartition("t", number) for number in range(4)]


async def test_places_begin_where_the_topic_begins() -> None:
    async def answered(value: Any) -> Any:
        return value

    begins, ends = dict.fromkeys(PLACES, 500), dict.fromkeys(PLACES, 900)
    committed = {PLACES[0]: 700, PLACES[1]: 100, PLACES[2]: -1}
    lag = GroupLag(Settings(), "group", [TOPIC])
    lag._consumer = SimpleNamespace(beginning_offsets=lambda _: answered(begins), end_offsets=lambda _: answered(ends))  # type: ignore[assignment]
    admin: Any = SimpleNamespace(
        list_consumer_group_offsets=lambda group, partitions: answered({tp: SimpleNamespace(offset=o) for tp, o in committed.items()})
    )
    assert await lag.read(admin) == {
        PLACES[0]: Place(700, 900), PLACES[1]: Place(500, 900), PLACES[2]: Place(500, 900), PLACES[3]: Place(500, 900),
    }  # fmt: skip
