"""A commit waits for what was handed over before it, and for nothing that comes later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver

from pipeline.settings import Settings
from pipeline.worker.app import create_worker
from pipeline.worker.handing_over import HandingOver
from pipeline.worker.transport import IdempotentProducer


async def test_it_waits_for_all_that_began_before_however_they_end() -> None:
    under_way = HandingOver()
    first, second = under_way.begin(), under_way.begin()
    waiting = asyncio.create_task(under_way.all_so_far())
    await asyncio.sleep(0)
    later = under_way.begin()
    under_way.end(second)
    await asyncio.sleep(0)
    assert not waiting.done()
    under_way.end(first)
    await asyncio.wait_for(waiting, 1)
    assert len(under_way) == 1
    under_way.end(later)
    await asyncio.wait_for(under_way.all_so_far(), 1)


async def test_what_was_handed_over_is_delivered_while_more_comes_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    async def slow_send(self: Any, topic: str, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0.005)
        sent.append(topic)
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(driver.Producer, "send", slow_send)
    producer = create_worker(Settings()).producer
    assert isinstance(producer, IdempotentProducer)

    def table_write(name: str) -> Any:
        async def publish(fut: Any, wait: bool) -> None:
            await producer.send(name, None, b"", 0, None, None)

        return SimpleNamespace(message=SimpleNamespace(channel=SimpleNamespace(publish_message=publish)))

    async def send_for_ever(name: str) -> None:
        while True:
            await producer.send(name, None, b"", 0, None, None)

    async def write_for_ever() -> None:
        while True:
            producer.buffer.put(table_write("later write"))
            await asyncio.sleep(0.002)

    await producer.buffer.start()
    load = [asyncio.create_task(c) for c in (send_for_ever("a"), send_for_ever("b"), write_for_ever())]
    await asyncio.sleep(0)
    own = asyncio.create_task(producer.send("own", None, b"", 0, None, None))
    producer.buffer.put(table_write("own write"))
    await asyncio.sleep(0)
    assert producer.has_unwritten()
    async with asyncio.timeout(5):
        assert await producer.delivered()
    assert own.done()
    assert {"own", "own write"} <= set(sent)
    assert producer.has_unwritten()
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    async with asyncio.timeout(20):
        await producer.delivered()
        await producer.buffer.stop()
