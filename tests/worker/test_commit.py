"""What may be committed: only the run of finished offsets that is contiguous from the base. Fails when Faust changes beneath us."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from pipeline.worker.transport import ContiguousConsumer
from pipeline.worker.watchdog import PASSED_OVER, Waiting

PARTITION = TP("gateway.admitted", 3)


def a_consumer(base: int | None, generation: int = 1) -> ContiguousConsumer:
    consumer = ContiguousConsumer.__new__(ContiguousConsumer)
    consumer.app = SimpleNamespace(consumer_generation_id=generation, topics=SimpleNamespace(acks_enabled_for=lambda _: True))
    consumer._base = {} if base is None else {PARTITION: base}
    consumer._finished, consumer._holes, consumer._acked, consumer._n_acked = {}, {}, {}, 0
    consumer._unacked_messages = set()
    return consumer


def a_message(offset: int, generation: int = 1):
    return SimpleNamespace(tp=PARTITION, topic=PARTITION.topic, offset=offset, acked=False, generation_id=generation, __hash__=None)


def ack(consumer: ContiguousConsumer, *offsets: int, generation: int = 1) -> None:
    for offset in offsets:
        message = a_message(offset, generation)
        consumer._unacked_messages = SimpleNamespace(discard=lambda _: None)
        consumer.ack(message)


@pytest.mark.parametrize(
    ("base", "acked", "commits"),
    [
        (2585, [2586, 2587, 2588, 2589], None),
        (0, [1, 2], None),
        (0, [5, 6], None),
        (10, [10, 11, 13, 14], 12),
        (10, [12, 11, 10], 13),
        (None, [1], None),
    ],
)
def test_an_unfinished_event_at_the_head_holds_the_commit(base, acked, commits):
    consumer = a_consumer(base)
    ack(consumer, *acked)
    assert consumer._new_offset(PARTITION) == commits


@given(st.sets(st.integers(0, 30)))
def test_the_commit_never_passes_an_unfinished_offset(finished):
    consumer = a_consumer(0)
    ack(consumer, *finished)
    offset = consumer._new_offset(PARTITION)
    assert all(o in finished for o in range(offset or 0))


def test_asking_what_may_be_committed_changes_nothing():
    consumer = a_consumer(0)
    ack(consumer, 0, 1)
    assert consumer._new_offset(PARTITION) == consumer._new_offset(PARTITION) == 2


def test_an_event_of_an_earlier_generation_is_not_finished_by_its_ack():
    consumer = a_consumer(0, generation=2)
    ack(consumer, 0, generation=1)
    assert consumer._new_offset(PARTITION) is None


def answers(earliest: int):
    async def earliest_offsets(*tps):
        return dict.fromkeys(tps, earliest)

    return earliest_offsets


def test_offsets_that_retention_deleted_count_as_finished_and_the_event_behind_them_does_not():
    consumer = a_consumer(5)
    consumer.earliest_offsets = answers(9)
    asyncio.run(consumer._add_gap(PARTITION, 6, 9))
    ack(consumer, 5)
    assert consumer._new_offset(PARTITION) == 9
    ack(consumer, 9)
    assert consumer._new_offset(PARTITION) == 10


def test_offsets_that_are_there_and_did_not_come_end_the_worker(monkeypatch):
    left = []
    monkeypatch.setattr("pipeline.worker.transport.leave", lambda code, why: left.append(code))
    consumer = a_consumer(5)
    consumer.earliest_offsets = answers(8)
    asyncio.run(consumer._add_gap(PARTITION, 6, 9))
    assert left == [PASSED_OVER]


def test_what_was_never_committed_is_read_from_its_earliest_offset_again():
    """aiokafka's seek_to_committed leaves the position as it is there, and what a rebalance dropped would never come again."""
    other = TP("gateway.commands", 0)
    consumer = a_consumer(None)
    sought = {}

    async def answered(value):
        return value

    async def seek_wait(places):
        sought.update(places)

    consumer._read_offset, consumer._committed_offset = {}, {}
    consumer.seek_to_committed = lambda: answered({PARTITION: None, other: 7})
    consumer.assignment = lambda: {PARTITION, other}
    consumer._is_changelog_tp = lambda _: False
    consumer.earliest_offsets = lambda *tps: answered(dict.fromkeys(tps, 3))
    consumer.seek_wait = seek_wait
    asyncio.run(consumer.perform_seek())
    assert sought == {PARTITION: 3}
    assert consumer._base == {PARTITION: 3, other: 7}
    # The record at 7 comes next: 6 is the last that was read.
    assert consumer._read_offset[other] == 6


async def test_what_waits_is_told_from_what_the_broker_has():
    """Read and unfinished, finished and not committed, not read, and nothing at all."""
    places = [TP("gateway.admitted", number) for number in range(5)]
    consumer = a_consumer(None)
    consumer._base = dict.fromkeys(places, 10)
    consumer._finished = {places[1]: {10, 11}}
    consumer._read_offset = {places[0]: 11, places[1]: 11, places[2]: 10, places[3]: None, places[4]: 10}

    async def highwaters(*asked):
        assert set(asked) == set(places)
        return dict.fromkeys(places[:4], 12) | {places[4]: 10}

    consumer.highwaters = highwaters
    assert await consumer.waiting() == {
        places[0]: Waiting(head=10, read=11, end=12), places[1]: Waiting(head=12, read=11, end=12),
        places[2]: Waiting(head=10, read=10, end=12), places[3]: Waiting(head=10, read=9, end=12),
    }  # fmt: skip
