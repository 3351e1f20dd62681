"""What a worker may write while the broker does not answer its heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import ConnectionGroup

from pipeline.kafka.connection import REQUEST_TIMEOUT_S
from pipeline.settings import Settings
from pipeline.worker import transport
from pipeline.worker.app import create_worker
from pipeline.worker.handing_over import HandingOver
from pipeline.worker.session import ANSWER_SHARE, SAFE_SHARE, Session
from pipeline.worker.transport import ConsumerInLoop, IdempotentProducer
from pipeline.worker.watchdog import SESSION_OVER

TIMEOUT_S = 0.4


class Coordinator:
    """aiokafka's, as far as a heartbeat is concerned; `answer` is what the broker does."""

    def __init__(self, answer: Callable[[], Awaitable[bool]]) -> None:
        self._do_heartbeat = answer
        self.coordinator_id: int | None = 1
        self.member_id = "member"
        self.closed: list[Any] = []
        connection = SimpleNamespace(close=lambda reason: self.closed.append(reason))
        self._client = SimpleNamespace(_conns={(1, ConnectionGroup.COORDINATION): connection})

    def coordinator_dead(self) -> None:
        self.coordinator_id = None


def waits(session: Session) -> bool:
    """Whether a write would wait now."""
    writing = session.certain()
    try:
        writing.send(None)
    except StopIteration:
        return False
    writing.close()
    return True


async def test_nothing_waits_before_the_first_assignment_and_in_a_rebalance() -> None:
    session = Session(TIMEOUT_S)
    assert not waits(session)
    session.renewed(time.monotonic() - TIMEOUT_S)
    assert waits(session)
    session.rejoins()
    assert not waits(session)


async def test_what_is_to_be_written_waits_until_a_heartbeat_is_answered() -> None:
    session = Session(TIMEOUT_S)
    session.renewed(time.monotonic() - TIMEOUT_S * SAFE_SHARE * 0.5)
    assert not waits(session)
    session.renewed(time.monotonic() - TIMEOUT_S * SAFE_SHARE)
    writing = asyncio.create_task(session.certain())
    done, _ = await asyncio.wait([writing], timeout=0.05)
    assert not done

    async def well() -> bool:
        return True

    assert await session.heartbeat(Coordinator(well), pytest.fail)()
    await asyncio.wait_for(writing, 1)


async def test_a_heartbeat_without_an_answer_gives_its_connection_up_and_renews_nothing() -> None:
    session = Session(TIMEOUT_S)
    session.renewed(time.monotonic() - TIMEOUT_S)

    async def never() -> bool:
        await asyncio.Event().wait()
        return True

    coordinator = Coordinator(never)
    began_s = time.monotonic()
    assert not await session.heartbeat(coordinator, pytest.fail)()
    assert TIMEOUT_S * ANSWER_SHARE <= time.monotonic() - began_s < TIMEOUT_S * 2
    assert coordinator.closed and coordinator.coordinator_id is None
    assert waits(session)


@pytest.mark.parametrize(("member_id", "is_over"), [("", True), ("member", False)])
async def test_only_the_answer_that_knows_no_such_member_ends_the_session(member_id: str, is_over: bool) -> None:
    told: list[bool] = []
    session = Session(TIMEOUT_S)
    session.renewed(time.monotonic() - TIMEOUT_S)

    async def refused() -> bool:
        coordinator.member_id = member_id
        return False

    coordinator = Coordinator(refused)
    assert not await session.heartbeat(coordinator, lambda: told.append(True))()
    assert bool(told) == is_over
    assert waits(session)


async def test_the_end_of_the_session_ends_the_worker_only_where_something_is_left_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(transport, "leave", lambda code, why: left.append(code))
    kafka = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
    producer = IdempotentProducer.__new__(IdempotentProducer)
    producer._handing_over, producer._producer = HandingOver(), kafka
    consumer = ConsumerInLoop.__new__(ConsumerInLoop)
    consumer.app = SimpleNamespace(producer=producer)
    consumer._session_over()
    assert left == []

    place = TopicPartition("gateway.records", 0)
    await kafka._message_accumulator.add_message(place, b"key", b"value", 1.0)
    consumer._session_over()
    assert left == [SESSION_OVER]
    kafka._closed = True  # It was never started, so there is nothing to stop.


async def test_a_connection_that_leads_nowhere_is_given_up_in_seconds_and_a_record_waits_longer_for_room() -> None:
    worker = create_worker(Settings(session_timeout_s=7))
    kafka = worker.producer._new_producer()
    consumer = worker.consumer._thread._create_worker_consumer(worker.transport)
    assert (kafka.client._request_timeout_ms, consumer._client._request_timeout_ms) == (REQUEST_TIMEOUT_S * 1000, 14_000)
    assert kafka._request_timeout_ms > 60_000
    kafka._closed = consumer._closed = True  # They were never started.
