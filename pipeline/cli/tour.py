"""The tour of `sluice up --demo`: a governed endpoint, a few requests that meet its rules, and what the tables say about them.

Everything goes through the same doors as anybody's requests. It can be run again on the same data folder: the endpoint is made as
it should be, and the answer counts earlier runs in. Raises CommandFailed where a step doesn't do what it should.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.cli.api import CommandFailed, Gateway
from pipeline.cli.endpoints import make_so
from pipeline.cli.terminal import errors

if TYPE_CHECKING:
    from pipeline.stack.up import RunningStack

ENDPOINT = "demo"
TABLE = "demo_catalog.ai.demo_request_response"
HINT = "SELECT status_code, count(*) FROM demo_catalog.ai.demo_request_response GROUP BY 1"
LIMIT = 10
USERS = ("alice@example.com", "bob@example.com")
# A full minute's window may end in the middle; a second one can't.
MOST_REQUESTS = 3 * LIMIT
TABLES_TIMEOUT_S = 120.0
# The monitoring query of the documentation, over the demo's table; `seen` counts the tour's own requests.
DASHBOARD = """
WITH hourly_stats AS (
    SELECT
        date_trunc('hour', from_unixtime(timestamp_ms/1000)) as hour,
        count(*) as requests,
        sum(input_tokens) as input_tokens,
        sum(output_tokens) as output_tokens,
        avg(execution_time_ms) as avg_latency_ms,
        percentile(execution_time_ms, 0.95) as p95_latency_ms,
        sum(case when status_code >= 400 then 1 else 0 end) as errors
    FROM {table}
    WHERE timestamp_ms > unix_timestamp(current_date() - INTERVAL 7 DAY) * 1000
    GROUP BY 1
)
SELECT
    hour,
    requests,
    input_tokens + output_tokens as total_tokens,
    round(avg_latency_ms, 0) as avg_latency_ms,
    round(p95_latency_ms, 0) as p95_latency_ms,
    round(100.0 * errors / requests, 2) as error_rate_pct,
    (SELECT count(*) FROM {table} WHERE request_id IN ({ids})) as seen
FROM hourly_stats
ORDER BY hour DESC
"""


async def tour(stack: RunningStack) -> None:
    """Take the running stack through it; returns when the tables have said their part."""
    ids = await asyncio.to_thread(_ask, stack)
    _show(await _wait_for_tables(stack, ids))
    _say(
        f"\nGo on yourself:\n"
        f"  curl {stack.host}/v1/chat/completions -H 'content-type: application/json' \\\n"
        f'    -H "authorization: Bearer $(cat {stack.folder.token_file})" \\\n'
        f'    -d \'{{"model": "{ENDPOINT}", "messages": [{{"role": "user", "content": "hello"}}]}}\'\n'
        f'  sluice chat {ENDPOINT} "hello"\n'
        f'  sluice sql "{HINT}"'
    )


def _ask(stack: RunningStack) -> list[str]:
    """The part of the tour that is HTTP; the ids of all its requests."""
    gateway = Gateway(stack.host, stack.folder.read_token(), stack.folder.path)
    _say("\nA tour: endpoint 'demo' with two served entities, a limit, a keyword guardrail, an inference table.")
    tokens = {user: gateway.call("POST", "/api/2.0/sluice/tokens", {"user": user}, "making tokens") for user in USERS}
    try:
        return _requests(stack, gateway, tokens)
    finally:
        for made in tokens.values():
            gateway.call("DELETE", f"/api/2.0/sluice/tokens/{made['token_id']}", doing="revoking the tour's tokens")


def _endpoint(demo_url: str, first_model: str) -> dict[str, Any]:
    def entity(name: str, model: str) -> dict[str, Any]:
        config = {"openai_api_key": "{{secrets/demo/key}}", "openai_api_base": demo_url}
        external = {"name": model, "provider": "openai", "task": "llm/v1/chat", "openai_config": config}
        return {"name": name, "external_model": external}

    return {
        "name": ENDPOINT,
        "config": {"served_entities": [entity("primary", first_model), entity("backup", "demo-large")]},
        "ai_gateway": {
            "inference_table_config": {"catalog_name": "demo_catalog", "schema_name": "ai", "table_name_prefix": "demo", "enabled": True},
            "usage_tracking_config": {"enabled": True},
            "rate_limits": [{"calls": LIMIT, "renewal_period": "minute", "key": "user"}],
            "guardrails": {"input": {"invalid_keywords": ["confidential"]}},
            "fallback_config": {"enabled": True},
        },
        "tags": [{"key": "team", "value": "demo"}],
    }


def _requests(stack: RunningStack, gateway: Gateway, tokens: dict[str, Any]) -> list[str]:
    """Send the tour's requests; the ids of all of them."""
    assert stack.demo_url is not None
    ids: list[str] = []
    outcomes: Counter[str] = Counter()

    def ask(user: str, text: str) -> int:
        body = {"messages": [{"role": "user", "content": text}]}
        path = f"/serving-endpoints/{ENDPOINT}/invocations"
        answer = gateway.send("POST", path, body, f"asking as {user}", as_token=tokens[user]["token"])
        if "x-request-id" in answer.headers:
            ids.append(answer.headers["x-request-id"])
        outcomes[str(answer.status_code)] += 1
        return answer.status_code

    alice, bob = USERS
    make_so(gateway, _endpoint(stack.demo_url, "fail-503"))
    _expect(ask(alice, "Is anybody there?"), 200, "the first served entity fails, the backup answers")
    make_so(gateway, _endpoint(stack.demo_url, "demo-small"))
    _expect(ask(bob, "Tell me something nice."), 200, "the first served entity works again, and answers")
    _expect(ask(bob, "Here is our confidential plan."), 400, "a keyword in the request is blocked")
    while outcomes["429"] < 2 and len(ids) < MOST_REQUESTS:
        ask(alice, f"Question number {len(ids)}?")
    _expect(429 if outcomes["429"] else 200, 429, f"alice asks more than {LIMIT} times in a minute and is refused")
    counted = ", ".join(f"{number} x {status}" for status, number in sorted(outcomes.items()))
    _say(f"  {len(ids)} requests sent: {counted}")
    return ids


def _expect(status: int, wanted: int, what: str) -> None:
    if status != wanted:
        raise CommandFailed(f"the tour expected status {wanted} and got {status} ({what}); see the logs, or run `sluice doctor`")
    _say(f"  {status}  {what}")


async def _wait_for_tables(stack: RunningStack, ids: list[str]) -> list[dict[str, Any]]:
    """The dashboard query's rows, when the tables hold every request of the tour."""
    query = DASHBOARD.format(table=TABLE, ids=", ".join(f"'{i}'" for i in ids))
    rows: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(TABLES_TIMEOUT_S):
            with errors.status("waiting for the tables, then asking them the dashboard's query ..."):
                while not rows or rows[0]["seen"] != len(ids):
                    rows = await _query(stack, query) or rows
        return rows
    except TimeoutError:
        seen = rows[0]["seen"] if rows else 0
        waited = f"after {TABLES_TIMEOUT_S:.0f} s"
        raise CommandFailed(
            f"the tables hold {seen} of {len(ids)} requests {waited}; see {stack.folder.logs / 'tables.log'}, or ask `sluice doctor`"
        ) from None


async def _query(stack: RunningStack, query: str) -> list[dict[str, Any]]:
    """The rows of a query; none where it fails, as it does while a table is not there yet."""
    # In a process of its own: its Java process goes with it.
    command = [sys.executable, "-m", "pipeline", "sql", query, "--format", "json", "--data", str(stack.folder.path)]
    command += ["--warehouse", str(stack.settings.warehouse_dir)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        await asyncio.sleep(1)
        return []
    rows: list[dict[str, Any]] = orjson.loads(printed)
    return rows


def _show(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    names = [name for name in rows[0] if name != "seen"]
    table = Table(title=f"The dashboard query over {TABLE}", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(str(row[name]) for name in names))
    # Wide enough that nothing is cut, in a narrow terminal too.
    Console(width=120).print(table)


def _say(text: str) -> None:
    print(text, flush=True)
