"""The broker is away for the better part of a minute, under a steady load: what clients are told, what it costs, and what it is like after.

Once a stack's broker is stopped (SIGSTOP: connections stand and nobody answers), and once an ingress' broker is killed and started again.
Each ingress lives through it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pipeline import topics
from pipeline.ingress.sending import SEND_TIMEOUT_S
from pipeline.stack.kafka_server import KafkaServer
from tests.ingress.alone import CHAT, ENDPOINT, PATH, ingress, ready, silent_worker, until, write
from tests.running import Stack

AWAY_S = 45.0
CLIENTS, PAUSE_S = 20, 0.1
# Until a stopped broker is noticed: a poll that is not answered takes 6 s, and 3 s are forgiven.
NOTICED_S = 12.0
BACK_S = 60.0
# What each refusal leaves behind waits for the collector, which comes seldom (pipeline/garbage.py). It is as much after five minutes.
MORE_MIB = 80


@dataclass(frozen=True, slots=True)
class Told:
    """One request: when it was sent, how long it took, and its status (0: the connection failed)."""

    sent_s: float
    took_s: float
    status: int


@asynccontextmanager
async def steady_load(host: str, token: str) -> AsyncIterator[list[Told]]:
    """Clients that ask again and again, a moment after each answer."""
    told: list[Told] = []
    limits = httpx.Limits(max_connections=CLIENTS)

    async def ask(client: httpx.AsyncClient) -> None:
        while True:
            sent_s = time.monotonic()
            try:
                status = (await client.post("/serving-endpoints/away/invocations", json=BODY)).status_code
            except httpx.TransportError:
                status = 0
            told.append(Told(sent_s, time.monotonic() - sent_s, status))
            await asyncio.sleep(PAUSE_S)

    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=host, headers=headers, timeout=150, trust_env=False, limits=limits) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(CLIENTS)]
        try:
            yield told
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


BODY = {"messages": [{"role": "user", "content": "x" * 2_000}], "max_tokens": 5}


def memory_mib(pid: int) -> float:
    """What a process holds in memory."""
    [kib] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) / 1024


def served(told: list[Told], since_s: float = 0.0) -> Callable[[], Awaitable[bool]]:
    """Whether many requests that were sent after `since_s` have been answered."""

    async def enough() -> bool:
        return sum(t.status == 200 and t.sent_s > since_s for t in told) > 200

    return enough


async def test_a_broker_that_stands_still_is_503_costs_no_memory_and_is_taken_up_again(fresh_stack: Callable[..., Stack]) -> None:
    stack = await asyncio.to_thread(fresh_stack, "--workers", "1", "--no-tables")
    await asyncio.to_thread(stack.create_endpoint, "away")
    parts = stack.state().parts
    kafka, ingress = parts["kafka"].pid, parts["ingress"].pid
    assert kafka is not None
    assert ingress is not None
    async with steady_load(stack.host, stack.admin_token) as told:
        await until(served(told), "served", 30)
        before_mib = memory_mib(ingress)
        os.killpg(kafka, signal.SIGSTOP)
        stopped_s = time.monotonic()
        try:
            await asyncio.sleep(AWAY_S)
            after_mib = memory_mib(ingress)
            worker = stack.state().parts["worker-0"].pid
            worker_mib = memory_mib(worker) if worker else 0.0
        finally:
            os.killpg(kafka, signal.SIGCONT)
        returned_s = time.monotonic()
        await until(served(told, returned_s), "served again", BACK_S)
        back_s = min(t.sent_s + t.took_s for t in told if t.status == 200 and t.sent_s > stopped_s + 1) - returned_s
    at_first = [t for t in told if stopped_s < t.sent_s < stopped_s + NOTICED_S]
    later = [t for t in told if stopped_s + NOTICED_S < t.sent_s < returned_s - 1]
    print(
        f"away {AWAY_S:g} s: {len(at_first)} asked before it was noticed, the longest answer {max(t.took_s for t in at_first):.1f} s; "
        f"{len(later)} later, the longest {max(t.took_s for t in later):.2f} s; ingress {before_mib:.0f} -> {after_mib:.0f} MiB, worker "
        f"{worker_mib:.0f} MiB; first answer {back_s:.1f} s after the return; worker restarts {stack.state().parts['worker-0'].restarts}"
    )
    assert {t.status for t in at_first + later} <= {200, 503}
    assert max(t.took_s for t in at_first) < SEND_TIMEOUT_S + 3
    assert {t.status for t in later} == {503}
    assert max(t.took_s for t in later) < 1
    assert after_mib < before_mib + MORE_MIB
    # What an ingress follows goes on too, and it is the same process.
    await asyncio.to_thread(stack.create_endpoint, "later")
    with stack.http() as client:
        assert client.post("/serving-endpoints/later/invocations", json=BODY).status_code == 200
    assert stack.state().parts["ingress"].pid == ingress


async def answer_all(server: KafkaServer, worker: AIOKafkaConsumer) -> None:
    """Answer every request as a worker would. The test's own client finds its way back to the broker."""
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap)
    await producer.start()
    try:
        async for record in worker:
            request = json.loads(record.value)
            answer = {"status_code": 200, "body": {"said": "hello"}, "attempts": 1}
            await producer.send(topics.RESPONSES.name, json.dumps(answer).encode(), request["request_id"].encode(), 0)
    finally:
        await asyncio.wait([asyncio.ensure_future(producer.stop())], timeout=5)


async def test_a_broker_that_is_gone_is_503_and_is_found_again(broker: KafkaServer) -> None:
    async with silent_worker(broker) as worker, ingress(broker, deadline_s=30) as client:
        await until(lambda: ready(client), "ready")
        answering = asyncio.create_task(answer_all(broker, worker))

        async def answered() -> bool:
            return (await client.post(PATH, json=CHAT)).status_code == 200

        await until(answered, "answered")
        broker.stop(0)
        gone_s = time.monotonic()
        told = []
        while time.monotonic() < gone_s + AWAY_S:
            sent_s = time.monotonic()
            status = (await client.post(PATH, json=CHAT)).status_code
            told.append(Told(sent_s, time.monotonic() - sent_s, status))
            await asyncio.sleep(PAUSE_S)
        broker.start()
        returned_s = time.monotonic()
        await until(answered, "answered again", BACK_S)
        back_s = time.monotonic() - returned_s
        # What is followed goes on too.
        await write(broker, topics.ENDPOINTS.name, "new", json.dumps({**ENDPOINT, "name": "new", "revision": 2}).encode())

        async def seen() -> bool:
            return (await client.get("/api/2.0/serving-endpoints/new")).status_code == 200

        await until(seen, "followed")
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
    later = [t for t in told if t.sent_s > gone_s + NOTICED_S]
    print(
        f"gone {AWAY_S:g} s: the longest answer {max(t.took_s for t in told):.1f} s, {len(later)} after it was noticed, the longest "
        f"{max(t.took_s for t in later):.2f} s; answered {back_s:.1f} s after its start"
    )
    assert {t.status for t in told} == {503}
    assert max(t.took_s for t in told) < SEND_TIMEOUT_S + 3
    assert max(t.took_s for t in later) < 1
