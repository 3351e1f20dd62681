"""The ingress on a real broker without the product's workers: what it says when nobody answers, answers late, or answers nonsense.

The test itself plays the worker where one is needed: it joins the workers' group, or writes to the answers' topic.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from pipeline import topics
from pipeline.ingress import inference
from pipeline.stack.kafka_server import KafkaServer
from tests.ingress.alone import CHAT, ENDPOINT, PATH, ingress, ready, silent_worker, until, write


async def test_without_workers_it_is_up_but_not_ready_and_refuses_at_once(broker: KafkaServer) -> None:
    async with ingress(broker) as client:
        assert (await client.get("/healthz")).status_code == 200
        not_ready = await client.get("/readyz")
        assert not_ready.status_code == 503
        assert "no worker is running" in not_ready.json()["missing"][0]
        begun = time.monotonic()
        for method, path, body in (("POST", PATH, CHAT), ("DELETE", "/api/2.0/serving-endpoints/chat", None)):
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - begun < 1


async def test_an_answer_that_never_comes_is_504_after_the_deadline(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "GRACE_S", 0.2)
    async with silent_worker(broker), ingress(broker, deadline_s=0.5) as client:
        await until(lambda: ready(client), "ready")
        begun = time.monotonic()
        answer = await client.post("/v1/chat/completions", json={**CHAT, "model": "chat"})
        assert 0.6 < time.monotonic() - begun < 5
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
        assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
        assert "sluice_ingress_waiting 0.0" in (await client.get("/metrics")).text


async def test_more_than_the_limit_do_not_wait(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "GRACE_S", 0.1)
    async with silent_worker(broker), ingress(broker, deadline_s=1, max_waiting=3) as client:
        await until(lambda: ready(client), "ready")
        answers = await asyncio.gather(*(client.post(PATH, json=CHAT) for _ in range(5)))
        assert sorted(a.status_code for a in answers) == [503, 503, 504, 504, 504]
        refused = next(a for a in answers if a.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        # Room has come back.
        assert (await client.post(PATH, json=CHAT)).status_code == 504


async def test_nonsense_strangers_and_repeats_on_the_answers_topic_do_no_harm(broker: KafkaServer) -> None:
    async with silent_worker(broker) as worker, ingress(broker, deadline_s=20, reply_partition=5) as client:
        await until(lambda: ready(client), "ready")
        body = {"messages": [{"role": "user", "content": "of this test"}]}
        call = asyncio.create_task(client.post(PATH, json=body))
        # Other tests' requests may come first: the members of the group commit now and then.
        while (request := json.loads((await worker.getone()).value))["body"] != body:
            pass
        request_id = request["request_id"]
        assert (request["reply_to"], request["reply_partition"]) == (topics.RESPONSES.name, 5)
        good = {"request_id": request_id, "status_code": 200, "body": {"said": "hello"}, "attempts": 1, "served_model": "m\r\nx-evil: 1"}
        for key, value in (
            ("stranger", b'{"status_code": 200, "body": {"not": "yours"}}'), ("stranger", None),
            (request_id, b"\xff\x00"), (request_id, None), (request_id, b'{"status_code": "200", "body": {}}'),
            (request_id, b'{"sequence": 1, "chunk": {}}'),
            (request_id, json.dumps(good).encode()), (request_id, json.dumps({**good, "status_code": 500}).encode()),
        ):  # fmt: skip
            await write(broker, topics.RESPONSES.name, key, value, 5)
        answer = await call
        assert (answer.status_code, answer.json()) == (200, {"said": "hello"})
        assert answer.headers["served-model-name"] == "m??x-evil: 1"
        assert "x-evil" not in answer.headers
        assert await ready(client)


async def test_a_poisoned_configuration_leaves_the_last_good_one_in_force(broker: KafkaServer) -> None:
    async with silent_worker(broker), ingress(broker) as client:
        await write(broker, topics.ENDPOINTS.name, "chat", b'{"name": "chat", "config": "poison"}')
        await write(broker, topics.ENDPOINTS.name, "poison", b"\xff\xfe")
        later = {**ENDPOINT, "name": "later", "revision": 2}
        await write(broker, topics.ENDPOINTS.name, "later", json.dumps(later).encode())

        async def seen() -> bool:
            return (await client.get("/api/2.0/serving-endpoints/later")).status_code == 200

        await until(seen, "followed past the poison")
        assert (await client.get("/api/2.0/serving-endpoints/chat")).status_code == 200
        assert [e["name"] for e in (await client.get("/api/2.0/serving-endpoints")).json()["endpoints"]] == ["chat", "later"]
    await write(broker, topics.ENDPOINTS.name, "chat", json.dumps(ENDPOINT).encode())


def test_the_process_says_where_it_listens_refuses_a_taken_port_and_ends_with_0(broker: KafkaServer) -> None:
    program = "from pipeline.ingress import main; from pipeline.settings import Settings; main(Settings())"
    env = {**os.environ, "SLUICE_KAFKA": broker.bootstrap, "SLUICE_PORT": "0"}
    first = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        line = first.stdout.readline()
        assert line.startswith("SLUICE READY ingress http://127.0.0.1:")
        port = line.strip().rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
        second = subprocess.run(
            [sys.executable, "-c", program], env={**env, "SLUICE_PORT": port}, capture_output=True, text=True, timeout=60
        )
        assert second.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
        assert "Traceback" not in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
    finally:
        first.kill()
        first.communicate()


async def test_a_broker_that_dies_is_503_and_said_by_readyz(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last in this file: the broker does not come back."""
    monkeypatch.setattr(inference, "GRACE_S", 0.1)
    async with ingress(broker, deadline_s=1) as client:
        async with silent_worker(broker):
            await until(lambda: ready(client), "ready")
            broker.stop(0)

            async def refused() -> bool:
                return (await client.post(PATH, json=CHAT)).status_code == 503

            await until(refused, "refused")
            answer = await client.post(PATH, json=CHAT)
        assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert "does not answer" in (await client.get("/readyz")).json()["missing"][0]
        assert (await client.get("/healthz")).status_code == 200
