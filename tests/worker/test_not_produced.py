"""A worker whose record the broker does not take ends at once, is started again, and goes on when the broker takes it.

A topic that takes small records only makes it happen: what follows a refused record is out of order for its producer, for ever.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from faust.exceptions import ProducerSendError
from faust.transport.drivers import aiokafka as driver

from pipeline import topics
from pipeline.worker.handing_over import HandingOver
from pipeline.worker.transport import IdempotentProducer
from pipeline.worker.watchdog import NOT_PRODUCED
from tests.running import Stack


def allow(kafka: str, topic: str, max_bytes: int) -> None:
    """Let a topic take records of this size."""

    async def change() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(max_bytes)})])
        finally:
            await admin.close()

    asyncio.run(change())


def test_a_worker_whose_record_is_refused_ends_and_the_request_is_answered_by_the_next(fresh_stack: Callable[..., Stack]) -> None:
    stack = fresh_stack("--workers", "1", "--no-tables")
    stack.create_endpoint("chat")
    allow(stack.kafka, topics.RECORDS.name, 300)
    body = {"messages": [{"role": "user", "content": "long " * 1_000}]}
    with stack.http() as client:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(client.post("/serving-endpoints/chat/invocations", json=body)))
        asking.start()
        try:
            deadline = time.monotonic() + 30
            while not any(f"worker-0 ended with code {NOT_PRODUCED}" in line for line in stack.lines):
                assert time.monotonic() < deadline, stack.lines[-5:]
                threading.Event().wait(0.05)
        finally:
            allow(stack.kafka, topics.RECORDS.name, 16_000_000)
            asking.join(130)
    assert [answer.status_code for answer in answers] == [200]
    log = (stack.data / "logs" / "worker-0.log").read_text()
    assert f"worker ends (exit {NOT_PRODUCED}): a record could not be produced: MessageSizeTooLargeError" in log


@pytest.mark.parametrize(("is_dead", "told"), [(True, 1), (False, 0)])
async def test_a_sending_task_that_has_died_is_a_failure_and_a_full_buffer_is_none(monkeypatch, is_dead, told):
    async def refuses(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ProducerSendError("made up")

    monkeypatch.setattr(driver.Producer, "send", refuses)
    producer = IdempotentProducer.__new__(IdempotentProducer)
    producer._handing_over = HandingOver()
    producer._producer = SimpleNamespace(_sender=SimpleNamespace(sender_task=SimpleNamespace(done=lambda: is_dead)))
    failures: list[BaseException] = []
    producer.on_failure = failures.append
    for _ in range(2):
        with pytest.raises(ProducerSendError):
            await producer.send("t", None, b"", 0, None, None)
    assert len(failures) == told
    assert (producer.failure is not None) is is_dead
