"""An ingress in the test's own process on a real broker, without the product's workers: the test plays the worker where one is needed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pipeline import topics
from pipeline.commands_client import token_hash
from pipeline.ingress.main import started
from pipeline.kafka.admin import create_topics
from pipeline.settings import Settings
from pipeline.stack.kafka_server import KafkaServer

TOKEN = "sluice-of-alice"
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
PATH = "/serving-endpoints/chat/invocations"
MODEL = {"name": "m", "provider": "openai", "task": "llm/v1/chat", "openai_config": {}}
ENDPOINT = {
    "name": "chat", "endpoint_id": "e1", "creator": "root@example.com", "creation_timestamp": 1, "last_updated_timestamp": 1, "revision": 1,
    "config_version": 1, "command_id": "c1", "config": {"served_entities": [{"name": "m", "external_model": MODEL}]},
}  # fmt: skip


async def furnish(server: KafkaServer) -> None:
    """Give a broker that has just been started the topics, one endpoint and alice's token."""
    await server.wait_ready(60)
    await create_topics(Settings(kafka=server.bootstrap))
    token = {"token_id": "t1", "user": "alice@example.com", "admin": True, "revision": 1, "command_id": "c0"}
    await write(server, topics.TOKENS.name, token_hash(TOKEN), json.dumps(token).encode())
    await write(server, topics.ENDPOINTS.name, "chat", json.dumps(ENDPOINT).encode())


async def write(server: KafkaServer, topic: str, key: str, value: bytes | None, partition: int = 0) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key.encode(), partition)
    finally:
        await producer.stop()


@asynccontextmanager
async def ingress(server: KafkaServer, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an ingress in this process."""
    async with started(Settings(kafka=server.bootstrap, **settings)) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://ingress", headers=headers, timeout=60) as client:
            yield client


@asynccontextmanager
async def silent_worker(server: KafkaServer, commits: bool = True) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of the workers' group that reads requests and says nothing; whether it `commits` what it has read by itself."""
    consumer = AIOKafkaConsumer(
        topics.REQUESTS.name, bootstrap_servers=server.bootstrap, group_id=topics.WORKER_GROUP, auto_offset_reset="earliest",
        enable_auto_commit=commits,
    )  # fmt: skip
    await consumer.start()
    try:
        yield consumer
    finally:
        # Without a broker a member of a group never gets to its end.
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait([stopping], timeout=5)
        stopping.cancel()


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> None:
    """Wait until the awaited `condition()` is true."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not {what} within {timeout_s} s"
        await asyncio.sleep(0.05)


async def shown(client: httpx.AsyncClient, sample: str) -> float:
    """A sample of the metrics' page."""
    [line] = [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith(sample + " ")]
    return float(line.removeprefix(sample))


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200
