"""What real workers under load look like to the ingress: slow calls are no queue, a flood in front of them is one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from itertools import count

import httpx
from aiokafka import AIOKafkaProducer

from pipeline import topics
from pipeline.kafka.partitions import partition_of
from tests.ingress.alone import CHAT, shown, until
from tests.running import Stack

DEADLINE_S = 5.0
CLIENTS, LOAD_S = 48, 20.0
FLOOD = 80_000


async def test_slow_calls_are_served_and_a_flood_is_refused_until_it_is_worked_off(fresh_stack: Callable[..., Stack]) -> None:
    stack = await asyncio.to_thread(fresh_stack, "--workers", "2", "--no-tables", SLUICE_DEADLINE_S=str(DEADLINE_S))
    for name, model in (("slow", "slow-4"), ("quick", "demo-small")):
        await asyncio.to_thread(stack.create_endpoint, name, None, [stack.entity(model)])
    headers = {"authorization": f"Bearer {stack.admin_token}"}
    limits = httpx.Limits(max_connections=CLIENTS + 5)
    async with httpx.AsyncClient(base_url=stack.host, headers=headers, timeout=60, trust_env=False, limits=limits) as client:

        async def ask(endpoint: str) -> httpx.Response:
            return await client.post(f"/serving-endpoints/{endpoint}/invocations", json=CHAT)

        async def ask_on(until_s: float) -> list[int]:
            statuses = []
            while time.monotonic() < until_s:
                statuses.append((await ask("slow")).status_code)
            return statuses

        # Longer than the deadline, each call nearly as long as it: commits on gateway.admitted are kept back all the time.
        told = await asyncio.gather(*(ask_on(time.monotonic() + LOAD_S) for _ in range(CLIENTS)))
        assert {status for statuses in told for status in statuses} == {200}

        await flood(stack.kafka, partition_of("quick", topics.COUNTED_PARTITIONS))
        refusals: list[httpx.Response] = []

        async def refused() -> bool:
            # A request that is taken would hold the test up until its deadline.
            if await shown(client, "sluice_expected_wait_seconds") <= DEADLINE_S:
                return False
            answer = await ask("quick")
            if answer.status_code == 503:
                refusals.append(answer)
            return bool(refusals)

        begun_s = time.monotonic()
        await until(refused, "refused", 30)
        noticed_s = time.monotonic() - begun_s
        assert "are worked off in a second" in refusals[0].json()["message"], refusals[0].text
        assert int(refusals[0].headers["retry-after"]) >= 1

        async def answered() -> bool:
            return (await ask("quick")).status_code == 200

        await until(answered, "answered again", 120)
        print(f"refused after {noticed_s:.1f} s: {refusals[0].json()['message']}; answered again after {time.monotonic() - begun_s:.1f} s")


async def flood(kafka: str, partition: int) -> None:
    """Put requests to an endpoint that does not exist before all that comes to a partition: each gets its answer and its row."""
    nobody = next(name for name in map("nobody-{}".format, count()) if partition_of(name, topics.COUNTED_PARTITIONS) == partition)
    request = {"endpoint": nobody, "user": "flood@example.com", "task": "llm/v1/chat", "body": CHAT}
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5, max_batch_size=262_144)
    await producer.start()
    try:
        for number in range(FLOOD):
            value = json.dumps({"request_id": f"flood-{number}", **request}).encode()
            await producer.send(topics.REQUESTS.name, value, nobody.encode(), partition)
    finally:
        await producer.stop()
