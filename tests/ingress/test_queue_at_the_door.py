"""How long requests would wait in front of the workers, as the ingress sees it on a real broker. The test plays the worker."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from pipeline import topics
from pipeline.ingress import inference
from pipeline.kafka.partitions import partition_of
from pipeline.stack.kafka_server import KafkaServer
from tests.ingress.alone import CHAT, ENDPOINT, PATH, ingress, ready, shown, silent_worker, until, write


async def test_a_queue_longer_than_the_deadline_is_refused(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that the test plays finishes 50 requests a second, and 1,000 of another program wait in one partition."""
    monkeypatch.setattr(inference, "GRACE_S", 0.1)
    partition = partition_of("chat", topics.COUNTED_PARTITIONS)
    places = [TopicPartition(topics.REQUESTS.name, number) for number in range(topics.COUNTED_PARTITIONS)]
    place = places[partition]
    await write(broker, topics.ENDPOINTS.name, "later", json.dumps({**ENDPOINT, "name": "later"}).encode())
    assert partition_of("later", topics.COUNTED_PARTITIONS) != partition
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    async with silent_worker(broker, commits=False) as worker, ingress(broker, deadline_s=2) as client:
        await until(lambda: ready(client), "ready")
        before = await worker.end_offsets(places)
        await worker.commit(before)
        begin = before[place]
        for _ in range(1_000):
            await producer.send(topics.REQUESTS.name, b"{}", b"chat", partition)
        await producer.stop()
        finished, begun, done = begin, time.monotonic(), asyncio.Event()

        async def work() -> None:
            nonlocal finished
            while not done.is_set():
                ends = await worker.end_offsets(places)
                finished = min(begin + int((time.monotonic() - begun) * 50), ends[place])
                await worker.commit({**ends, place: finished})
                await asyncio.sleep(0.5)

        working = asyncio.create_task(work())
        try:

            async def refused() -> bool:
                return (await client.post(PATH, json=CHAT)).status_code == 503

            await until(refused, "refused", 15)
            answer = await client.post(PATH, json=CHAT)
            message = answer.json()["message"]
            assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
            lag = int(message.split()[0])
            assert 300 < lag < 1_000
            assert "are worked off in a second" in message
            assert "start more workers" in message
            # The worker is as far behind as it would have to be to need so long.
            assert 1 <= int(answer.headers["retry-after"]) <= lag / 50 + 3
            said = await client.get("/readyz")
            assert said.status_code == 200
            assert said.json()["behind"][0].startswith(f"{topics.REQUESTS.name}[{partition}]: ")
            assert 300 < await shown(client, 'sluice_unfinished{topic="gateway.requests"}') <= 1_010
            assert await shown(client, "sluice_expected_wait_seconds") > 2
            # Other partitions are served; here nobody answers, so the deadline passes.
            other = await client.post("/serving-endpoints/later/invocations", json=CHAT)
            assert other.status_code == 504

            async def taken() -> bool:
                return (await client.post(PATH, json=CHAT)).status_code == 504

            await until(taken, "taken again", 40)
            assert finished - begin > 700
            assert (await client.get("/readyz")).json() == {"status": "ready"}
        finally:
            done.set()
            await working


async def test_calls_under_way_are_no_queue(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call at the head of gateway.admitted keeps the commit back for longer than the deadline, while all is served."""
    monkeypatch.setattr(inference, "GRACE_S", 0.1)
    async with silent_worker(broker, commits=False) as worker, ingress(broker, deadline_s=1) as client:
        await until(lambda: ready(client), "ready")
        requests = [TopicPartition(topics.REQUESTS.name, number) for number in range(topics.COUNTED_PARTITIONS)]
        for number in range(200):
            await write(broker, topics.ADMITTED.name, f"r{number}", b"{}", number % topics.COUNTED_PARTITIONS)

        async def work() -> None:
            while True:
                await worker.commit(await worker.end_offsets(requests))
                await asyncio.sleep(0.2)

        working = asyncio.create_task(work())
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 12:
                answer = await client.post(PATH, json=CHAT)
                assert answer.status_code == 504, answer.text
        finally:
            working.cancel()
            await asyncio.wait([working])
        assert await shown(client, 'sluice_unfinished{topic="gateway.admitted"}') >= 200
