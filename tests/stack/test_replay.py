"""Five hundred logged requests sent through a second endpoint by a command that is killed half-way and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.sql_client import QueryFailed, ask
from pipeline.settings import Settings
from tests.demo import calls
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

REQUESTS = 500
SOURCE, TARGET, MODEL = "replay-source", "replay-target", "echo+slow-0.05+replayed"
LOGS = {"catalog_name": "replays", "schema_name": "logs", "enabled": True}
USAGE = {"usage_tracking_config": {"enabled": True}}


def command(stack: Any, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", "replay", "--from", "replays.logs.source", "--to", TARGET, *arguments]


def environment(stack: Any) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_") or k == "SLUICE_JARS"}
    return {**clean, "SLUICE_DATA": str(stack.data)}


def question(number: int) -> str:
    if number % 25 == 0:
        return f"the forbidden word, number {number}"
    return f"question {number} of " + ("bob@example.com" if number % 10 == 1 else "somebody")


async def log_requests(stack: Any) -> Counter[int]:
    gate, statuses = asyncio.Semaphore(32), Counter[int]()
    headers = {"authorization": f"Bearer {stack.token('alice@example.com')}"}
    async with httpx.AsyncClient(base_url=stack.host, headers=headers, timeout=60, trust_env=False) as client:

        async def one(number: int) -> None:
            async with gate:
                body = {"messages": [{"role": "user", "content": question(number)}], "stream": number % 7 == 0}
                answer = await client.post(f"/serving-endpoints/{SOURCE}/invocations", json=body)
                statuses[answer.status_code] += 1

        await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    return statuses


def lines_of(folder: Path) -> int:
    files = list(folder.glob("*/results.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0


def asked(stack: Any, query: str) -> list[dict[str, Any]]:
    """The rows of a query, from the stack's own Spark; none while the table is not there."""
    try:
        text = ask(query, Settings(data=stack.data), "json")
    except QueryFailed:
        return []
    assert text is not None
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def usage_of(stack: Any) -> tuple[Counter[str], Counter[str]]:
    """Requests by endpoint, as endpoint_usage and as usage_hourly have them."""

    def counted(query: str) -> Counter[str]:
        return Counter({row["endpoint_name"]: row["n"] for row in asked(stack, query) if row["endpoint_name"] in (SOURCE, TARGET)})

    return (
        counted("SELECT endpoint_name, count(*) AS n FROM system.serving.endpoint_usage GROUP BY 1"),
        counted("SELECT endpoint_name, sum(requests) AS n FROM system.serving.usage_hourly GROUP BY 1"),
    )


async def test_five_hundred_requests_killed_half_way_and_resumed(stack: Any, tmp_path: Path) -> None:
    guarded = {"input": {"invalid_keywords": ["forbidden"]}}
    stack.create_endpoint(SOURCE, {"inference_table_config": {**LOGS, "table_name_prefix": "source"}, **USAGE, "guardrails": guarded})
    limits = [{"calls": 3, "renewal_period": "day"}, {"calls": 3, "renewal_period": "day", "key": "user"}]
    masking = {"input": {"pii": {"behavior": "MASK"}}}
    stack.create_endpoint(
        TARGET,
        {"rate_limits": limits, "inference_table_config": {**LOGS, "table_name_prefix": "target"}, **USAGE, "guardrails": masking},
        entities=[stack.entity(MODEL)],
    )
    assert await log_requests(stack) == {200: REQUESTS - 20, 400: 20}
    query = "SELECT * FROM replays.logs.source_request_response"
    logged = wait_for(lambda: len(rows := asked(stack, query)) >= REQUESTS and rows, 120.0, "the rows")
    before = wait_for(lambda: (found := usage_of(stack))[1][SOURCE] == REQUESTS and found, 120.0, "usage")

    replays = stack.data / "replays"
    first = subprocess.Popen(
        command(stack, "--rate", "100"),
        env=environment(stack),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # By the file that the command goes on from.
        wait_for(lambda: first.poll() is not None or lines_of(replays) >= REQUESTS // 2, 120.0, "half of the replay")
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    half = lines_of(replays)
    assert REQUESTS // 2 <= half < REQUESTS - 50

    again = subprocess.run(
        command(stack, "--rate", "100"), env=environment(stack), capture_output=True, text=True, timeout=200, check=False
    )
    assert again.returncode == 0, again.stderr
    assert f"{half} of them are done already" in again.stderr

    # 500 results, none double, and no request went to the provider twice, those under way at the kill included.
    rows = asked(stack, "SELECT * FROM system.serving.replays")
    assert len(rows) == REQUESTS and {row["replay_of"] for row in rows} == {row["request_id"] for row in logged}
    assert len({row["request_id"] for row in rows}) == REQUESTS and len({row["replay_id"] for row in rows}) == 1
    assert len(calls(stack.demo_url, model=MODEL)) == REQUESTS

    by_id = {row["request_id"]: row for row in logged}
    for row in rows:
        original = by_id[row["replay_of"]]
        for name in ("status_code", "execution_time_ms", "input_tokens", "output_tokens", "endpoint_name"):
            assert row[f"original_{name}"] == original[name], name
        text = json.loads(original["request"])["messages"][0]["content"]
        assert (row["status_code"], row["endpoint_name"], row["model"]) == (200, TARGET, MODEL)
        assert row["original_guardrails"] == (["input KEYWORD blocked"] if "forbidden" in text else [])
        assert row["guardrails"] == (["input PII masked"] if "bob@" in text else [])
        assert row["execution_time_ms"] >= 50 and row["output_tokens"] > 0
        assert (row["similarity"] is None) == ("forbidden" in text)

    # Nothing of it in the usage figures, in an inference table, or in anybody's limits.
    query = "SELECT replay_of FROM system.internal.landing WHERE replay_of IS NOT NULL AND endpoint_name = 'replay-target'"
    marked = wait_for(lambda: len(found := asked(stack, query)) >= REQUESTS and found, 120.0, "the records")
    assert Counter(row["replay_of"] for row in marked) == dict.fromkeys(by_id, 1)
    with stack.http(stack.token("alice@example.com")) as client:
        body = {"messages": [{"role": "user", "content": "after it"}]}
        first_call = client.post(f"/serving-endpoints/{TARGET}/invocations", json=body)
    assert (first_call.status_code, first_call.headers["x-ratelimit-remaining-requests"]) == (200, "2")
    own = Counter({TARGET: 1})
    after = wait_for(lambda: (found := usage_of(stack))[1][TARGET] == 1 and found, 120.0, "usage")
    assert after == (before[0] + own, before[1] + own)
    assert len(asked(stack, "SELECT request_id FROM replays.logs.target_request_response")) == 1

    # The text is gone, the page is there.
    [folder] = [path for path in replays.glob("*/") if path.is_dir()]
    assert {path.name for path in folder.iterdir()} == {"replay.json", "page.html", "lock"}
    assert "20 of 500 requests have another status now" in again.stdout
    assert folder.name in (folder / "page.html").read_text()
