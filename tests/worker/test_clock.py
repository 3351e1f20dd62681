"""Whose clock counts: the broker's. A producer that names another time gets no other limit, no other time in its row and no other hour."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipeline.topics import DAY_MS, HOUR_MS
from tests.kafka_client import kafka_client

pytestmark = [pytest.mark.stack]

CALLS = 4


async def test_a_forged_time_changes_neither_limit_nor_row_nor_hour(stack: Any) -> None:
    name = "clock-forged"
    table = {"catalog_name": "clock", "schema_name": "tests", "table_name_prefix": "forged", "enabled": True}
    limits = [{"calls": CALLS, "renewal_period": "day", "key": "user"}]
    stack.create_endpoint(name, {"rate_limits": limits, "inference_table_config": table, "usage_tracking_config": {"enabled": True}})
    began_ms = int(time.time() * 1000)
    # Each would have a day of its own, if the producer's time counted.
    forged_ms = [0, 1, began_ms - 40 * DAY_MS, *(began_ms + days * DAY_MS for days in (-3, -2, -1, 1, 2, 3, 4_000)), began_ms - HOUR_MS]
    async with kafka_client(stack.kafka) as client:
        ids = [await client.request(name, created_ms=ms) for ms in forged_ms]
        statuses = [answer["status_code"] for answer in await client.answered(ids)]
    if began_ms // DAY_MS == int(time.time() * 1000) // DAY_MS:  # at midnight the limit begins anew
        assert statuses == [200] * CALLS + [429] * (len(ids) - CALLS)

    rows = stack.wait_rows("clock.tests.forged_request_response", len(ids))
    assert sorted(row["request_id"] for row in rows) == sorted(ids)
    ended_ms = int(time.time() * 1000)
    assert all(began_ms <= row["timestamp_ms"] <= ended_ms for row in rows)
    hours = [row for row in stack.wait_rows("system.serving.usage_hourly", 1) if row["endpoint_name"] == name]
    assert {int(row["hour"].timestamp() * 1000) for row in hours} <= {ms // HOUR_MS * HOUR_MS for ms in (began_ms, ended_ms)}
