"""Limits through both doors at once, recounted from the rows' own times: every window holds exactly its limit where more came."""

import asyncio
import random
from collections import Counter

import httpx
import pytest

from tests.kafka_client import kafka_client

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

USERS = [f"user{n}@example.com" for n in range(20)]
PERIOD_MS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000}
LIMITS = [
    {"calls": 60, "renewal_period": "second"},
    {"calls": 2, "renewal_period": "second", "key": "user"},
    {"calls": 70, "renewal_period": "minute", "key": "user"},
    {"calls": 1_000, "renewal_period": "hour"},
]


async def test_two_thousand_requests_from_twenty_users_over_http_and_kafka(stack):
    name, per_door = "limits-at-the-door", 1_000
    table = {"catalog_name": "door", "schema_name": "limits", "table_name_prefix": "two_thousand", "enabled": True}
    stack.create_endpoint(name, {"rate_limits": LIMITS, "inference_table_config": table})
    tokens = {user: stack.token(user) for user in USERS}
    rng = random.Random(11)
    statuses: Counter[int] = Counter()

    async def over_http(client: httpx.AsyncClient, gate: asyncio.Semaphore) -> None:
        async with gate:
            headers = {"authorization": f"Bearer {tokens[rng.choice(USERS)]}"}
            body = {"messages": [{"role": "user", "content": "hi"}]}
            answer = await client.post(f"/serving-endpoints/{name}/invocations", json=body, headers=headers)
            statuses[answer.status_code] += 1
            if answer.status_code == 429:
                assert "calls per" in answer.json()["message"]
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers["x-ratelimit-remaining-requests"] == "0"

    async def over_kafka(client, gate: asyncio.Semaphore) -> None:
        async with gate:
            answer = await client.answer(await client.request(name, rng.choice(USERS)))
            statuses[answer["status_code"]] += 1

    gate = asyncio.Semaphore(32)
    async with kafka_client(stack.kafka) as kafka, httpx.AsyncClient(base_url=stack.host, timeout=60) as http:
        await asyncio.gather(*(over_http(http, gate) for _ in range(per_door)), *(over_kafka(kafka, gate) for _ in range(per_door)))
    assert statuses[200] + statuses[429] == 2 * per_door
    assert statuses[429] > 0

    rows = stack.wait_rows("door.limits.two_thousand_request_response", 2 * per_door, timeout_s=90)
    assert len(rows) == 2 * per_door == len({r["request_id"] for r in rows})
    assert Counter(r["status_code"] for r in rows) == statuses
    _recount(rows)


def _recount(rows: list[dict]) -> None:
    """No window holds more than its limit; and each refusal has a full window that explains it."""
    windows: dict[tuple, Counter] = {}
    for place, limit in enumerate(LIMITS):
        size_ms = PERIOD_MS[limit["renewal_period"]]
        for row in rows:
            subject = row["requester"] if limit.get("key") == "user" else ""
            windows.setdefault((place, row["timestamp_ms"] // size_ms, subject), Counter())[row["status_code"]] += 1
    for (place, _, _), counts in windows.items():
        assert counts[200] <= LIMITS[place]["calls"]
    full = {key for key, counts in windows.items() if counts[200] == LIMITS[key[0]]["calls"]}
    for row in rows:
        if row["status_code"] == 429:
            places = (
                (place, row["timestamp_ms"] // PERIOD_MS[limit["renewal_period"]], row["requester"] if limit.get("key") == "user" else "")
                for place, limit in enumerate(LIMITS)
            )
            assert any(place in full for place in places)
