"""What a request becomes on the stream, how it is answered once, and what happens when its client leaves."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.kafka.partitions import partition_of

pytestmark = [pytest.mark.stack]
NAME = "door-requests"
PATH = f"/serving-endpoints/{NAME}/invocations"


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.fixture(scope="module", autouse=True)
def endpoint(stack: Any) -> None:
    stack.create_endpoint(NAME)


@asynccontextmanager
async def following(bootstrap: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of everything that comes onto `topic` from now on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, fetch_max_wait_ms=50)
    await consumer.start()
    try:
        await consumer.topics()
        places = [TopicPartition(topic, p) for p in range(16)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)
        yield consumer
    finally:
        await consumer.stop()


async def record_of(consumer: AIOKafkaConsumer, request_id: str) -> Any:
    """The record whose value names this request."""
    async with asyncio.timeout(20):
        while True:
            record = await consumer.getone()
            if json.loads(record.value)["request_id"] == request_id:
                return record


def client_of(stack: Any, token: str | None = None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token or stack.admin_token}"}
    return httpx.AsyncClient(base_url=stack.host, headers=headers, timeout=60, trust_env=False)


async def test_the_record_carries_who_asked_by_the_token_and_nothing_of_the_gateway_in_its_body(stack: Any) -> None:
    token = stack.token("alice@example.com", groups=["search"])
    async with following(stack.kafka, "gateway.requests") as consumer, client_of(stack, token) as client:
        sent = chat(user="mallory@example.com", usage_context={"team": "search"}, client_request_id="c-1", model="ignored")
        answer = await client.post(PATH, json=sent)
        record = await record_of(consumer, answer.headers["x-request-id"])
    value = json.loads(record.value)
    assert answer.status_code == 200
    assert (value["user"], value["groups"], value["task"]) == ("alice@example.com", ["search"], "llm/v1/chat")
    assert (value["usage_context"], value["client_request_id"]) == ({"team": "search"}, "c-1")
    assert value["body"] == chat(user="mallory@example.com")
    assert (record.key, record.partition) == (NAME.encode(), partition_of(NAME, 16))
    assert stack.admin_token.encode() not in record.value
    assert token.encode() not in record.value + b"".join(v for _, v in record.headers)


async def test_an_answer_has_the_headers_of_the_contract(stack: Any) -> None:
    stack.create_endpoint("door-limited", {"rate_limits": [{"calls": 2, "renewal_period": "day"}]})
    async with client_of(stack) as client:
        first = await client.post("/serving-endpoints/door-limited/invocations", json=chat())
        await client.post("/serving-endpoints/door-limited/invocations", json=chat())
        refused = await client.post("/serving-endpoints/door-limited/invocations", json=chat())
    assert (first.status_code, first.headers["served-model-name"], first.headers["x-sluice-attempts"]) == (200, "demo-small", "1")
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert 0 < int(first.headers["x-ratelimit-reset-requests"]) <= 86_400
    assert (refused.status_code, refused.json()["error_code"]) == (429, "REQUEST_LIMIT_EXCEEDED")
    assert "2 calls per day" in refused.json()["message"]
    assert int(refused.headers["retry-after"]) >= 1


async def test_an_idempotency_key_gives_the_stored_answer_and_refuses_another_body(stack: Any) -> None:
    key = {"idempotency-key": str(uuid.uuid4())}
    async with client_of(stack) as client:
        first = await client.post(PATH, json=chat("once"), headers=key)
        again = await client.post(PATH, json=chat("once"), headers=key)
        other = await client.post(PATH, json=chat("twice"), headers=key)
        served = await client.post(PATH, json=chat("once"))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.headers["x-request-id"] == again.headers["x-request-id"] != served.headers["x-request-id"]
    assert (other.status_code, other.json()["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")


async def test_the_same_key_at_once_is_answered_to_everybody(stack: Any) -> None:
    key = {"idempotency-key": str(uuid.uuid4())}
    async with client_of(stack) as client:
        answers = await asyncio.gather(*(client.post(PATH, json=chat("together"), headers=key) for _ in range(5)))
    assert [a.status_code for a in answers] == [200] * 5
    assert len({a.headers["x-request-id"] for a in answers}) == 1


async def test_a_try_that_a_limit_refuses_is_recorded_beside_the_request_of_its_key(stack: Any) -> None:
    table = {"catalog_name": "door", "schema_name": "tests", "table_name_prefix": "keyed", "enabled": True}
    limits = [{"calls": 1, "renewal_period": "minute", "key": "user"}]
    stack.create_endpoint("door-keyed", {"rate_limits": limits, "inference_table_config": table}, entities=[stack.entity("echo+slow-1")])
    path = "/serving-endpoints/door-keyed/invocations"
    key = {"idempotency-key": str(uuid.uuid4())}
    # At the end of a renewal period both would be admitted.
    async with client_of(stack) as client:
        first, again = await asyncio.gather(*(client.post(path, json=chat("once"), headers=key) for _ in range(2)))
        refused = await client.post(path, json=chat("once"), headers=key)
        while refused.status_code != 429:
            refused = await client.post(path, json=chat("once"), headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    request_id, refused_id = first.headers["x-request-id"], refused.headers["x-request-id"]
    assert refused_id != request_id
    rows = {r["request_id"]: r["status_code"] for r in stack.wait_rows("door.tests.keyed_request_response", 2)}
    assert (rows[request_id], rows[refused_id]) == (200, 429)


async def test_a_key_belongs_to_its_user_and_its_endpoint(stack: Any) -> None:
    key = {"idempotency-key": "shared"}
    async with client_of(stack) as admin, client_of(stack, stack.token("bob@example.com")) as bob:
        one = await admin.post(PATH, json=chat("mine"), headers=key)
        two = await bob.post(PATH, json=chat("his"), headers=key)
    assert (one.status_code, two.status_code) == (200, 200)
    assert one.headers["x-request-id"] != two.headers["x-request-id"]


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_a_key_of_a_wrong_length_is_refused(stack: Any, key: str) -> None:
    async with client_of(stack) as client:
        answer = await client.post(PATH, json=chat(), headers={"idempotency-key": key})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


async def test_a_client_that_goes_away_is_told_to_the_workers_and_leaves_nothing_behind(stack: Any) -> None:
    stack.create_endpoint("door-slow", entities=[stack.entity("slow-20")])
    async with following(stack.kafka, "gateway.cancellations") as gone, following(stack.kafka, "gateway.requests") as requests:
        async with client_of(stack) as client:
            call = asyncio.create_task(client.post("/serving-endpoints/door-slow/invocations", json=chat("sleep 20")))
            async with asyncio.timeout(20):
                while (record := await requests.getone()).key != b"door-slow":
                    pass
            request_id = json.loads(record.value)["request_id"]
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        cancelled = await record_of(gone, request_id)
        assert (cancelled.key.decode(), cancelled.partition) == (request_id, partition_of(request_id, 16))
    async with client_of(stack) as client, asyncio.timeout(20):
        while "sluice_ingress_waiting 0.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.05)
        assert (await client.post(PATH, json=chat())).status_code == 200


async def test_two_hundred_at_once_are_all_answered_with_their_own_answer(stack: Any) -> None:
    async with client_of(stack) as client:
        answers = await asyncio.gather(*(client.post(PATH, json=chat(f"number {n}")) for n in range(200)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.headers["x-request-id"] for a in answers}) == 200
