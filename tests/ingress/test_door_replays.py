"""The header that marks a replayed request: an admin's alone, and it takes the request out of limits, usage and tables."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.ingress.test_door_requests import chat, client_of, following, record_of

pytestmark = [pytest.mark.stack]
NAME = "door-replays"
PATH = f"/serving-endpoints/{NAME}/invocations"
MARK = "x-sluice-replay-of"


@pytest.fixture(scope="module", autouse=True)
def endpoint(stack: Any) -> None:
    table = {"catalog_name": "door", "schema_name": "replays", "table_name_prefix": "marked", "enabled": True}
    gateway = {
        "rate_limits": [{"calls": 2, "renewal_period": "day"}],
        "usage_tracking_config": {"enabled": True},
        "inference_table_config": table,
        "guardrails": {"input": {"invalid_keywords": ["forbidden"], "pii": {"behavior": "MASK"}}},
    }
    stack.create_endpoint(NAME, gateway, entities=[stack.entity("echo")])


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/v1/messages"])
async def test_only_an_admin_may_mark_a_request(stack: Any, path: str) -> None:
    async with client_of(stack, stack.token("alice@example.com")) as client:
        refused = await client.post(path, json=chat(model=NAME, max_tokens=5), headers={MARK: "r1"})
    assert refused.status_code == 403
    assert "replaying a logged request needs an admin's token" in refused.text
    assert "x-sluice-replayed" not in refused.headers


@pytest.mark.parametrize("given", ["", "x" * 129, "a%0ab", "%ff"])
async def test_what_is_no_request_id_is_refused(stack: Any, given: str) -> None:
    async with client_of(stack) as client:
        refused = await client.post(PATH, json=chat(), headers={MARK: given})
    assert refused.status_code == 400 and MARK in refused.json()["message"]


async def test_a_replayed_request_is_not_streamed(stack: Any) -> None:
    async with client_of(stack) as client:
        refused = await client.post(PATH, json=chat(stream=True), headers={MARK: "r1"})
    assert refused.status_code == 400 and "stream" in refused.json()["message"]


async def test_replayed_requests_are_marked_tell_what_came_of_them_and_use_up_no_limit(stack: Any) -> None:
    async with following(stack.kafka, "gateway.records") as records, client_of(stack) as client:
        headers = {MARK: "r%C3%A9%201", "idempotency-key": "once"}
        first = await client.post(PATH, json=chat("write to bob@example.com"), headers=headers)
        record = json.loads((await record_of(records, first.headers["x-request-id"])).value)
        # More than the limit allows.
        others = await asyncio.gather(*(client.post(PATH, json=chat(), headers={MARK: f"r{n}"}) for n in range(5)))
        again = await client.post(PATH, json=chat("write to bob@example.com"), headers=headers)
        blocked = await client.post(PATH, json=chat("it is forbidden"), headers={MARK: "r9"})
        ordinary = await client.post(PATH, json=chat())
    assert (record["replay_of"], record["usage_tracking"], record["inference_table"]) == ("ré 1", False, None)
    told = json.loads(first.headers["x-sluice-replayed"])
    assert (told["served_entity"], told["output_tokens"] > 0, told["execution_time_ms"]) == ("echo", True, record["execution_time_ms"])
    assert {run["assessment_type"]: run["result"] for run in told["guardrails"]} == {"KEYWORD": "PASSED", "PII": "MASKED"}
    assert [answer.status_code for answer in others] == [200] * 5
    # Answered from the record, with all that it told at first.
    assert (again.headers["x-request-id"], again.json()) == (first.headers["x-request-id"], first.json())
    assert json.loads(again.headers["x-sluice-replayed"]) == told
    runs = json.loads(blocked.headers["x-sluice-replayed"])["guardrails"]
    assert blocked.status_code == 400 and {"KEYWORD": "BLOCKED"}.items() <= {r["assessment_type"]: r["result"] for r in runs}.items()
    assert "x-sluice-replayed" not in ordinary.headers
    assert (ordinary.status_code, ordinary.headers["x-ratelimit-remaining-requests"]) == (200, "1")
    rows = stack.wait_rows("door.replays.marked_request_response", 1)
    assert [row["request_id"] for row in rows] == [ordinary.headers["x-request-id"]]
