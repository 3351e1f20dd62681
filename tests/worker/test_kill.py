"""kill -9 of a worker with calls under way: every accepted request is answered once and has one row."""

import asyncio
import json
import os
import signal
import time
from collections import Counter

import httpx
import pytest

from tests.demo import calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

CALLS = 200
WITHIN_S = 30


@pytest.fixture(scope="module")
def two_workers(running_stack):
    """A brand-new installation: its consumer group has never committed a call."""
    with running_stack("--workers", "2") as stack:
        yield stack


async def _kill_one_of_two(stack, round_name: str) -> None:
    name, model = f"kill-{round_name}", f"echo+slow-6+{round_name}"
    table = {"catalog_name": "kill", "schema_name": "tests", "table_name_prefix": round_name, "enabled": True}
    stack.create_endpoint(name, {"inference_table_config": table}, entities=[stack.entity(model)])
    token = stack.token("alice@example.com")
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=CALLS)
    async with httpx.AsyncClient(base_url=stack.host, timeout=100, headers=headers, limits=limits) as client:

        async def one(number: int) -> httpx.Response:
            body = {"messages": [{"role": "user", "content": f"call {number}"}]}
            return await client.post(f"/serving-endpoints/{name}/invocations", json=body)

        waiting = [asyncio.create_task(one(n)) for n in range(CALLS)]
        async with asyncio.timeout(30):
            while len(calls(stack.demo_url, model=model)) < CALLS:
                await asyncio.sleep(0.1)
        pid = stack.state().parts["worker-0"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        answers = await asyncio.gather(*waiting)
        took_s = time.monotonic() - killed_s
    assert Counter(a.status_code for a in answers) == {200: CALLS}
    assert took_s < WITHIN_S
    ids = [a.headers["x-request-id"] for a in answers]
    assert len(set(ids)) == CALLS
    rows = stack.wait_rows(f"kill.tests.{round_name}_request_response", CALLS, timeout_s=60)
    assert Counter(r["request_id"] for r in rows) == Counter(ids)
    answered = {a.headers["x-request-id"]: a.json()["choices"][0]["message"]["content"] for a in answers}
    for row in rows:
        assert json.loads(row["response"])["choices"][0]["message"]["content"] == answered[row["request_id"]]


async def test_on_a_brand_new_installation(two_workers):
    await _kill_one_of_two(two_workers, "new")


async def test_on_one_that_has_run_for_a_while(two_workers):
    await _kill_one_of_two(two_workers, "old")
