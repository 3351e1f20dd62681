"""Answers that come late, twice, or belong to nobody here: each client still gets its own, once, and its row says the same."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline import topics

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

CLIENTS, ROUNDS = 12, 5
# How many answers later an answer comes again, as one of a worker that was thought dead may.
LATE = 40
AGAIN = [("test-again", b"1")]


class Meddler:
    """Puts every record of the ingress' partition there again: at once, late, and under an id that nobody waits for."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, place: TopicPartition) -> None:
        self._consumer, self._producer, self._place = consumer, producer, place
        self.put = 0

    async def run(self) -> None:
        seen: deque[Any] = deque(maxlen=LATE)
        async for record in self._consumer:
            if list(record.headers) == AGAIN:
                continue
            await self._put(record.key, record.value)
            await self._put(b"stranger-" + record.key, record.value)
            if len(seen) == LATE:
                await self._put(seen[0].key, seen[0].value)
            seen.append(record)

    async def _put(self, key: bytes, value: bytes) -> None:
        await self._producer.send(self._place.topic, value, key, self._place.partition, headers=AGAIN)
        self.put += 1


@asynccontextmanager
async def meddler(bootstrap: str) -> AsyncIterator[Meddler]:
    """At work within the block."""
    place = TopicPartition(topics.RESPONSES.name, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=20)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([place])
        await consumer.seek_to_end(place)
        await consumer.position(place)
        made = Meddler(consumer, producer, place)
        work = asyncio.create_task(made.run())
        yield made
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    finally:
        await consumer.stop()
        await producer.stop()


async def whole(http: httpx.AsyncClient, endpoint: str, text: str) -> tuple[str, str]:
    """The id and the text of an answer."""
    answer = await http.post(f"/serving-endpoints/{endpoint}/invocations", json={"messages": [{"role": "user", "content": text}]})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"], answer.json()["choices"][0]["message"]["content"]


async def streamed(http: httpx.AsyncClient, endpoint: str, text: str) -> tuple[str, str]:
    """The same of a stream, which must have one end."""
    body = {"messages": [{"role": "user", "content": text}], "stream": True}
    async with http.stream("POST", f"/serving-endpoints/{endpoint}/invocations", json=body) as answer:
        assert answer.status_code == 200
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
    assert lines.count("data: [DONE]") == 1 and lines[-1] == "data: [DONE]"
    events = [json.loads(line[6:]) for line in lines[:-1]]
    return answer.headers["x-request-id"], "".join(c["delta"].get("content") or "" for event in events for c in event["choices"])


async def test_late_double_and_foreign_answers_change_nothing_for_anybody(stack: Any) -> None:
    name = "answers-again"
    table = {"catalog_name": "answers", "schema_name": "tests", "table_name_prefix": "again", "enabled": True}
    stack.create_endpoint(name, {"inference_table_config": table}, entities=[stack.entity("echo+pieces-8+drip-0.02")])
    token = await asyncio.to_thread(stack.token, "alice@example.com")
    answered: dict[str, str] = {}

    async def client(http: httpx.AsyncClient, number: int) -> None:
        for turn in range(ROUNDS):
            text = f"client {number} asks for the {turn}th time " + "and waits " * 5
            request_id, said = await (streamed if number % 2 else whole)(http, name, text)
            assert said == text
            assert request_id not in answered
            answered[request_id] = said

    headers = {"authorization": f"Bearer {token}"}
    async with (
        meddler(stack.kafka) as at_work,
        httpx.AsyncClient(base_url=stack.host, headers=headers, timeout=60, trust_env=False) as http,
    ):
        await asyncio.gather(*(client(http, number) for number in range(CLIENTS)))
        assert (await http.get("/readyz")).status_code == 200
        assert at_work.put > len(answered)
    rows = await asyncio.to_thread(stack.wait_rows, "answers.tests.again_request_response", len(answered), 120.0)
    assert Counter(row["request_id"] for row in rows) == Counter(list(answered))
    for row in rows:
        assert json.loads(row["response"])["choices"][0]["message"]["content"] == answered[row["request_id"]]
