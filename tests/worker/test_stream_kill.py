"""kill -9 of a worker with 200 streams under way: each ends complete or with an error event, none hangs, each has its row."""

import asyncio
import json
import os
import signal
import time
from collections import Counter

import httpx
import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

STREAMS = 200
MODEL = "words-120+pieces-12+drip-0.15"
WITHIN_S = 60


async def test_every_stream_ends_and_has_its_row(fresh_stack):
    stack = fresh_stack("--workers", "2")
    table = {"catalog_name": "kill", "schema_name": "tests", "table_name_prefix": "streams", "enabled": True}
    stack.create_endpoint("kill-streams", {"inference_table_config": table}, entities=[stack.entity(MODEL)])
    headers = {"authorization": f"Bearer {stack.token('alice@example.com')}"}
    begun = 0
    async with httpx.AsyncClient(
        base_url=stack.host, timeout=100, headers=headers, limits=httpx.Limits(max_connections=STREAMS), trust_env=False
    ) as client:

        async def one(number: int) -> tuple[str, str, str]:
            """Request id, how it ended, what came."""
            nonlocal begun
            body = {"messages": [{"role": "user", "content": f"stream {number}"}], "stream": True}
            text, end = "", "hung up"
            async with client.stream("POST", "/serving-endpoints/kill-streams/invocations", json=body) as answer:
                begun += 1
                if answer.status_code != 200:
                    return answer.headers["x-request-id"], f"status {answer.status_code}", ""
                async for line in answer.aiter_lines():
                    if line == "data: [DONE]":
                        end = "complete"
                    elif line.startswith("data: "):
                        event = json.loads(line[6:])
                        if "error" in event:
                            end = "error"
                        else:
                            text += "".join(c["delta"].get("content") or "" for c in event["choices"])
            return answer.headers["x-request-id"], end, text

        waiting = [asyncio.create_task(one(n)) for n in range(STREAMS)]
        async with asyncio.timeout(60):
            while begun < STREAMS:
                await asyncio.sleep(0.05)
        pid = stack.state().parts["worker-0"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        ended = await asyncio.gather(*waiting)
        took_s = time.monotonic() - killed_s
    ends = Counter(end for _, end, _ in ended)
    assert set(ends) <= {"complete", "error"}
    # The killed worker had about half of them, the other went on.
    assert ends["complete"] > 20 and ends["error"] > 20
    assert took_s < WITHIN_S
    rows = stack.wait_rows("kill.tests.streams_request_response", STREAMS, timeout_s=90)
    assert Counter(r["request_id"] for r in rows) == Counter(i for i, _, _ in ended)
    by_id = {r["request_id"]: r for r in rows}
    for request_id, end, text in ended:
        row = by_id[request_id]
        said = json.loads(row["response"])["choices"][0]["message"]["content"]
        assert row["status_code"] == 200
        assert said == text if end == "complete" else said.startswith(text)
