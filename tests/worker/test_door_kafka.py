"""Through the real door of Kafka: what a plain producer gets for good and for bad records, and that the next request is served."""

import asyncio
import json
import random

import pytest

from pipeline.kafka.partitions import partition_of
from tests.demo import calls
from tests.kafka_client import dead_letter, kafka_client

pytestmark = [pytest.mark.stack]


def calls_of(stack, request_id: str) -> list[dict]:
    return calls(stack.demo_url, request_id=request_id)


async def test_a_plain_producer_gets_its_answer_and_its_row(stack):
    stack.create_endpoint("kafka-plain", {"usage_tracking_config": {"enabled": True}})
    async with kafka_client(stack.kafka) as client:
        answer = await client.answer(await client.request("kafka-plain", usage_context={"team": "search"}, client_request_id="c-1"))
    assert answer["status_code"] == 200
    assert answer["body"]["choices"][0]["message"]["content"]
    assert answer["execution_time_ms"] >= 0
    assert answer["served_entity"]


async def test_a_record_in_the_wrong_partition_is_counted_against_the_right_limit(stack):
    name = "kafka-misplaced"
    stack.create_endpoint(name, {"rate_limits": [{"calls": 5, "renewal_period": "day"}]})
    async with kafka_client(stack.kafka) as client:
        # As librdkafka's partitioner would: anywhere but where murmur2 says.
        ids = [await client.request(name, at_partition=p) for p in range(16) if p != partition_of(name, 16)]
        statuses = [a["status_code"] for a in await client.answered(ids)]
    assert sorted(statuses) == [200] * 5 + [429] * 10


async def test_the_same_id_with_the_same_body_is_answered_again_without_a_second_call(stack):
    stack.create_endpoint("kafka-repeat")
    async with kafka_client(stack.kafka) as client:
        request_id = await client.request("kafka-repeat", text="once")
        first = await client.answer(request_id)
        await client.request("kafka-repeat", text="once", request_id=request_id)
        second = await client.answer(request_id, count=2)
    assert (first["status_code"], first["body"]) == (second["status_code"], second["body"])
    assert len(calls_of(stack, request_id)) == 1


async def test_the_same_id_with_another_body_is_refused_with_409(stack):
    stack.create_endpoint("kafka-conflict")
    async with kafka_client(stack.kafka) as client:
        request_id = await client.request("kafka-conflict", text="one thing")
        await client.answer(request_id)
        await client.request("kafka-conflict", text="another thing", request_id=request_id)
        second = await client.answer(request_id, count=2)
    assert second["status_code"] == 409
    assert second["body"]["error_code"] == "RESOURCE_ALREADY_EXISTS"
    assert len(calls_of(stack, request_id)) == 1


async def test_two_requests_under_one_id_at_the_same_time_are_one_call_and_both_answered(stack):
    stack.create_endpoint("kafka-twins", entities=[stack.entity("slow-1")])
    async with kafka_client(stack.kafka) as client:
        request_id = await client.request("kafka-twins")
        await client.request("kafka-twins", request_id=request_id)
        await client.answer(request_id, count=2)
    assert len(calls_of(stack, request_id)) == 1


@pytest.fixture(scope="module")
def beside_poison(stack) -> str:
    """An endpoint whose requests lie behind the bad records."""
    stack.create_endpoint("kafka-poison")
    return "kafka-poison"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(random.Random(7).randbytes(2_000), id="random bytes"),
        pytest.param(None, id="null"),
        pytest.param(b"{", id="truncated"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{}", id="no fields"),
        pytest.param(b'{"request_id":"x","endpoint":"e","user":"u","task":"llm/v1/chat","body":"text"}', id="wrong type"),
        pytest.param(b'{"request_id":"x","request_id":"y","endpoint":"e","user":"u","task":"llm/v1/chat","body":{}}', id="duplicate key"),
        pytest.param(b'{"request_id":"x","endpoint":"e","user":"u","task":"llm/v1/chat","body":{"t":NaN}}', id="NaN"),
        pytest.param(b'{"request_id":"\\ud800","endpoint":"e","user":"u","task":"llm/v1/chat","body":{}}', id="lone surrogate"),
        pytest.param(b'{"request_id":"' + b"x" * 129 + b'","endpoint":"e","user":"u","task":"llm/v1/chat","body":{}}', id="long id"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
async def test_bytes_that_are_no_request_become_a_dead_letter_and_the_stream_goes_on(stack, beside_poison, value):
    async with kafka_client(stack.kafka) as client:
        place = await client.produce(value, key=b"any", partition=3)
        # The next record of the same partition, so that it must have passed the bad one.
        after = await client.request(beside_poison, at_partition=3)
        assert (await client.answer(after))["status_code"] == 200
    letter = await dead_letter(stack.kafka, place.partition, place.offset)
    assert letter["topic"] == "gateway.requests"
    assert letter["reason"]


async def test_a_record_for_an_endpoint_that_is_not_there_is_answered_404(stack):
    async with kafka_client(stack.kafka) as client:
        answer = await client.answer(await client.request("no-such-endpoint"))
    assert (answer["status_code"], answer["body"]["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "no-such-endpoint" in answer["body"]["message"]


async def test_a_five_megabyte_record_is_served(stack):
    stack.create_endpoint("kafka-large")
    async with kafka_client(stack.kafka) as client:
        answer = await client.answer(await client.request("kafka-large", text="word " * 1_000_000))
    assert answer["status_code"] == 200


async def test_a_reply_topic_that_is_not_on_the_list_is_refused(stack):
    stack.create_endpoint("kafka-reply-to")
    async with kafka_client(stack.kafka) as client:
        answer = await client.answer(await client.request("kafka-reply-to", reply_to="gateway.records"))
    assert answer["status_code"] == 400
    assert "gateway.records" in answer["body"]["message"]


async def test_a_deadline_that_has_passed_calls_no_provider(stack):
    stack.create_endpoint("kafka-late")
    async with kafka_client(stack.kafka) as client:
        request_id = await client.request("kafka-late", deadline_ms=1_000)
        answer = await client.answer(request_id)
    assert (answer["status_code"], answer["body"]["error_code"]) == (504, "DEADLINE_EXCEEDED")
    assert calls_of(stack, request_id) == []


async def test_a_task_that_the_endpoint_does_not_serve_is_refused(stack):
    stack.create_endpoint("kafka-task")
    async with kafka_client(stack.kafka) as client:
        answer = await client.answer(await client.request("kafka-task", task="llm/v1/embeddings"))
    assert answer["status_code"] == 400
    assert "llm/v1/chat" in answer["body"]["message"]


async def test_a_poisoned_configuration_changes_nothing_and_the_last_good_one_holds(stack):
    from aiokafka import AIOKafkaProducer

    stack.create_endpoint("kafka-poisoned-config")
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka)
    await producer.start()
    try:
        for value in (b"\x00\xff", b"{}", json.dumps({"name": "kafka-poisoned-config", "config": 7}).encode()):
            await producer.send_and_wait("gateway.endpoints", value, key=b"kafka-poisoned-config", partition=0)
    finally:
        await producer.stop()
    async with kafka_client(stack.kafka) as client:
        assert (await client.answer(await client.request("kafka-poisoned-config")))["status_code"] == 200


async def test_a_slow_call_delays_no_short_one(stack):
    stack.create_endpoint("kafka-slow", entities=[stack.entity("slow-20")])
    stack.create_endpoint("kafka-quick")
    async with kafka_client(stack.kafka) as client:
        slow = [await client.request("kafka-slow") for _ in range(100)]
        quick = [await client.request("kafka-quick") for _ in range(100)]
        answers = await client.answered(quick, timeout_s=10)
        assert not any(i in client.answers for i in slow)
        assert {a["status_code"] for a in answers} == {200}
        await client.answered(slow, timeout_s=60)


async def test_answers_go_to_the_asked_reply_partition(stack):
    from aiokafka import AIOKafkaConsumer, TopicPartition

    stack.create_endpoint("kafka-partition")
    place = TopicPartition("gateway.responses", 5)
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka, group_id=None)
    await consumer.start()
    try:
        consumer.assign([place])
        await consumer.seek_to_end(place)
        await consumer.position(place)
        async with kafka_client(stack.kafka) as client:
            request_id = await client.request("kafka-partition", reply_partition=5)
            async with asyncio.timeout(30):
                while (await consumer.getone()).key != request_id.encode():
                    pass
    finally:
        await consumer.stop()
