"""A real worker on a real broker, in the test's process: its consumer's fetching ends without a word, as nothing in the product does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import topics
from pipeline.settings import Settings
from pipeline.stack.jars import find_java, kafka_jars
from pipeline.stack.kafka_server import KafkaServer
from pipeline.stack.ports import free_port
from pipeline.worker import app as worker_app
from pipeline.worker import watchdog
from pipeline.worker.app import create_worker
from pipeline.worker.watchdog import UNREAD
from tests.ingress.alone import furnish, until, write


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaServer]:
    server = KafkaServer(tmp_path, free_port(), find_java(), kafka_jars())
    server.start()
    try:
        asyncio.run(furnish(server))
        yield server
    finally:
        server.stop()


async def test_a_worker_whose_consumer_fetches_nothing_any_more_ends(
    broker: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    for module in (watchdog, worker_app):
        monkeypatch.setattr(module, "leave", lambda code, why: left.append(code))
    monkeypatch.setattr(watchdog, "UNREAD_S", 3.0)
    monkeypatch.setattr(watchdog, "LOOK_S", 0.5)
    worker: Any = create_worker(Settings(kafka=broker.bootstrap, data=tmp_path))
    await worker.start()
    try:

        async def settled() -> bool:
            return bool(worker.ownership.owned) and not worker.rebalancing and not worker.in_recovery

        async def idle() -> bool:
            return not await worker.consumer.waiting()

        await until(settled, "settled", 60)
        for number in range(20):
            await write(broker, topics.REQUESTS.name, "chat", b"no request", number % 2)
        assert await worker.consumer.waiting() or await idle()
        await until(idle, "all finished and committed", 30)
        # Longer than the bound with nothing to read, and with records that are read.
        for _ in range(8):
            await write(broker, topics.REQUESTS.name, "chat", b"no request", 1)
            await until(idle, "all finished and committed", 30)
        assert left == []
        fetcher = worker.consumer._thread._consumer._fetcher
        # A question that is under way would still bring the first of the three.
        for task in (fetcher._fetch_task, *fetcher._pending_tasks):
            task.cancel()
        for _ in range(3):
            await write(broker, topics.REQUESTS.name, "chat", b"no request", 1)
        [(tp, waiting)] = (await worker.consumer.waiting()).items()
        assert (tp.topic, tp.partition, waiting.end - 1 - waiting.read) == (topics.REQUESTS.name, 1, 3)

        async def ended() -> bool:
            return bool(left)

        await until(ended, "ended", 15)
        assert left[0] == UNREAD
    finally:
        await worker.stop()
