"""A producer that has failed for good is replaced, seen at the ingress of a real broker: by records that the broker refuses, and, injected
into aiokafka, by a sending task that dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber

from pipeline import topics
from pipeline.ingress import inference
from pipeline.kafka.connection import new_producer, stop_producer
from pipeline.kafka.lasting_producer import BeingRenewed, LastingProducer
from pipeline.settings import Settings
from pipeline.stack.kafka_server import KafkaServer
from tests.ingress.alone import CHAT, PATH, ingress, ready, silent_worker, until

TOPIC = topics.REQUESTS.name


def lasting(broker: KafkaServer) -> LastingProducer:
    return LastingProducer(lambda: new_producer(Settings(kafka=broker.bootstrap), "test"), [TOPIC])


async def allow(broker: KafkaServer, max_bytes: int) -> None:
    """Let the topic take records of this size."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, {"max.message.bytes": str(max_bytes)})])
    finally:
        await admin.close()


async def send(producer: Any, size: int = 10) -> Any:
    return await asyncio.wait_for(producer.send_and_wait(TOPIC, b"x" * size, b"k", 3), 20)


async def test_a_record_that_the_broker_refuses_spoils_a_plain_producer_and_not_a_lasting_one(broker: KafkaServer) -> None:
    plain, last = new_producer(Settings(kafka=broker.bootstrap), "plain"), lasting(broker)
    await plain.start()
    await last.start()
    try:
        for producer in (plain, last):
            await send(producer)
        await allow(broker, 2_000)

        async def refused(producer: Any) -> bool:
            try:
                await send(producer, 5_000)
            except MessageSizeTooLargeError:
                return True
            except (BeingRenewed, OutOfOrderSequenceNumber):
                return False
            return False

        for producer in (plain, last):
            await until(lambda producer=producer: refused(producer), "refused")
        await allow(broker, 1_000_000)
        for _ in range(3):
            # Its records are out of order until its end.
            with pytest.raises(OutOfOrderSequenceNumber):
                await send(plain)
        await until(lambda: taken(last), "taken", 5)
        for _ in range(3):
            await send(last)
    finally:
        await allow(broker, 16_000_000)
        await stop_producer(plain)
        await last.stop()


async def test_the_door_says_503_to_the_record_that_was_refused_and_takes_the_next(
    broker: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "GRACE_S", 0.1)
    long = {"messages": [{"role": "user", "content": "long " * 2_000}]}
    async with silent_worker(broker), ingress(broker, deadline_s=1) as client:
        await until(lambda: ready(client), "ready")
        # Nobody answers: the deadline passes.
        assert (await client.post(PATH, json=CHAT)).status_code == 504
        try:
            await allow(broker, 2_000)

            async def refused() -> bool:
                answer = await client.post(PATH, json=long)
                return answer.status_code == 503 and "MessageSizeTooLargeError" in answer.json()["message"]

            await until(refused, "refused")
        finally:
            await allow(broker, 16_000_000)

        async def goes_on() -> bool:
            return (await client.post(PATH, json=CHAT)).status_code == 504

        await until(goes_on, "taken", 10)


async def taken(producer: LastingProducer) -> bool:
    try:
        await send(producer)
    except BeingRenewed:
        return False
    return True


@pytest.mark.parametrize("idle", [False, True], ids=["with a record", "idle"])
async def test_a_sending_task_that_dies_is_replaced(broker: KafkaServer, idle: bool) -> None:
    last = lasting(broker)
    await last.start()
    try:
        await send(last)
        first: Any = last._producer

        def fails(**_: Any) -> Any:
            raise RuntimeError("injected")

        first._message_accumulator.drain_by_nodes = fails
        if idle:
            # It looks for records, and there is none that could fail with it.
            first._message_accumulator._waiter_future.set_result(None)
            await asyncio.wait([first._sender.sender_task], timeout=5)
        with pytest.raises(KafkaError):
            await send(last)
        await until(lambda: taken(last), "taken", 5)
        assert last._producer is not first
        # What it has left behind is closed.
        await until(lambda: _gone(last), "the failed one ended", 10)
        assert first._closed
    finally:
        await last.stop()
    with pytest.raises(BeingRenewed):
        await send(last)


async def _gone(last: LastingProducer) -> bool:
    return not last._ending
