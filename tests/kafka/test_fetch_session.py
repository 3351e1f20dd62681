"""Incremental fetches: the broker's idea of what is wanted is always the fetcher's, whatever gets lost on the way."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v3, FetchRequest_v11
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kafka.fetch_session import FetchSessions

TOPICS = ("requests", "admitted", "changelog")
# What one fetch wants, and what becomes of it.
WANTED = st.dictionaries(st.tuples(st.sampled_from(TOPICS), st.integers(0, 3)), st.integers(0, 5), max_size=6)
FATES = st.sampled_from(["answered", "answered", "answered", "lost before", "lost behind", "forgotten", "no room"])


class Broker:
    """KIP-227 as a broker keeps it: one session at a time, by number and epoch."""

    def __init__(self) -> None:
        self.number = 0
        self.epoch = 0
        self.wanted: dict[tuple[str, int], int] = {}
        self.named = 0

    def answer(self, request, *, room: bool = True):
        named = {(topic, p[0]): p[2] for topic, partitions in request.topics for p in partitions}
        self.named = len(named)
        if request.session_epoch == 0:
            self.number, self.epoch, self.wanted = (self.number + 1, 1, named) if room else (self.number, -1, {})
            return self._response(0, self.number if room else 0), named
        if request.session_id != self.number or self.epoch == -1:
            return self._response(70, 0), {}
        if request.session_epoch != self.epoch:
            return self._response(71, 0), {}
        self.epoch += 1
        self.wanted |= named
        for topic, partitions in request.forgotten_topics_data:
            for partition in partitions:
                del self.wanted[topic, partition]
        return self._response(0, self.number), dict(self.wanted)

    @staticmethod
    def _response(error_code: int, session_id: int):
        return SimpleNamespace(API_VERSION=11, error_code=error_code, session_id=session_id, topics=[])


def a_fetch(wanted) -> FetchRequest:
    by_topic: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, partition), offset in wanted.items():
        by_topic.setdefault(topic, []).append((partition, offset, 1_000))
    return FetchRequest(100, 1, 10_000, 0, list(by_topic.items()))


@given(st.lists(st.tuples(WANTED, FATES), max_size=20))
def test_whatever_gets_lost_a_fetch_that_succeeds_asks_for_exactly_what_is_wanted(fetches):
    broker, read, fate = Broker(), {}, ""

    async def send(node_id, request):
        nonlocal read
        if fate == "lost before":
            raise KafkaConnectionError
        if fate == "forgotten":
            broker.epoch = -1
        response, read = broker.answer(request.build(FetchRequest_v11), room=fate != "no room")
        if fate == "lost behind":
            raise KafkaConnectionError
        return response

    sessions = FetchSessions(send)
    for wanted, fate in fetches:  # noqa: B007  read by send
        try:
            response = asyncio.run(sessions(1, a_fetch(wanted)))
        except KafkaConnectionError:
            continue
        if response.error_code == 0:
            assert read == wanted


async def test_a_second_fetch_names_only_what_has_changed():
    broker = Broker()

    async def send(node_id, request):
        return broker.answer(request.build(FetchRequest_v11))[0]

    sessions = FetchSessions(send)
    wanted = {("requests", n): 7 for n in range(16)}
    await sessions(1, a_fetch(wanted))
    assert broker.named == 16
    await sessions(1, a_fetch({**wanted, ("requests", 3): 8}))
    assert broker.named == 1
    assert broker.wanted["requests", 3] == 8


async def test_a_broker_too_old_for_sessions_is_asked_in_full():
    seen = []

    async def send(node_id, request):
        seen.append(request.build(FetchRequest_v3))
        return SimpleNamespace(API_VERSION=3, topics=[])

    sessions = FetchSessions(send)
    for _ in range(2):
        await sessions(1, a_fetch({("requests", 0): 1}))
    assert [len(request.topics) for request in seen] == [1, 1]


async def test_other_requests_pass_as_they_are():
    async def send(node_id, request, **kwargs):
        return node_id, request, kwargs

    assert await FetchSessions(send)(4, "metadata", group=1) == (4, "metadata", {"group": 1})


async def test_a_cancelled_fetch_ends_the_session():
    broker, started = Broker(), asyncio.Event()

    async def send(node_id, request):
        response = broker.answer(request.build(FetchRequest_v11))[0]
        if started.is_set():
            return response
        started.set()
        await asyncio.Event().wait()

    sessions = FetchSessions(send)
    fetch = asyncio.create_task(sessions(1, a_fetch({("requests", 0): 1})))
    await started.wait()
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    await sessions(1, a_fetch({("requests", 0): 1}))
    assert broker.named == 1
