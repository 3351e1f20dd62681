"""Engines that are killed, hang or are away while requests come: nothing passes unchecked, and afterwards all is well again."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.stack.ports import free_port
from tests.demo import behave, calls

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

REQUESTS = 400
NAME = "Robert Miller"


@pytest.fixture(scope="module")
def impatient(running_stack):
    """A guardrail that takes longer than two seconds has failed here."""
    with running_stack("--workers", "2", SLUICE_GUARDRAIL_TIMEOUT_S="2") as stack:
        yield stack


def guarded(stack: Any, name: str, **parameters: Any) -> dict[str, str]:
    table = {"catalog_name": "engines", "schema_name": "tests", "table_name_prefix": name.replace("-", "_"), "enabled": True}
    pii = {"behavior": "MASK", "entities": ["PERSON", "EMAIL_ADDRESS"]}
    guardrails = {"input": {"pii": pii, **parameters}}
    stack.create_endpoint(name, {"guardrails": guardrails, "inference_table_config": table}, entities=[stack.entity(f"echo+{name}")])
    return table


def engines_of(stack: Any) -> list[int]:
    """The processes that look for names, of all workers of this stack."""
    workers = {part.pid for name, part in stack.state().parts.items() if name.startswith("worker")}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent in workers and b"pipeline.ner.child" in command:
            found.append(int(entry.name))
    return found


async def asked(client: httpx.AsyncClient, endpoint: str, number: int) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": f"On day {number} my friend {NAME} came home."}]}
    return await client.post(f"/serving-endpoints/{endpoint}/invocations", json=body)


async def under_load(stack: Any, endpoint: str, hurt: Callable[[int], None]) -> list[httpx.Response]:
    """All answers to many requests, while every engine is hurt once some of them have been answered."""
    answers: list[httpx.Response] = []
    gate = asyncio.Semaphore(16)
    headers = {"authorization": f"Bearer {stack.admin_token}"}
    async with httpx.AsyncClient(base_url=stack.host, timeout=60, headers=headers) as client:

        async def one(number: int) -> None:
            async with gate:
                answers.append(await asked(client, endpoint, number))
            if len(answers) in (REQUESTS // 8, REQUESTS // 2):
                for pid in engines_of(stack):
                    hurt(pid)

        # The first starts the engines.
        await asyncio.gather(*(one(n) for n in range(16)))
        assert engines_of(stack)
        await asyncio.gather(*(one(n) for n in range(16, REQUESTS)))
        # Engines that hang are given up after a while, and all is well again.
        async with asyncio.timeout(60):
            while (await asked(client, endpoint, 0)).status_code != 200:
                pass
    return answers


@pytest.mark.parametrize(
    ("name", "hurt"), [("killed", lambda pid: os.kill(pid, signal.SIGKILL)), ("hung", lambda pid: os.kill(pid, signal.SIGSTOP))]
)
async def test_nothing_passes_unchecked_where_the_engine_is_hurt_under_load(impatient, name, hurt):
    table = guarded(impatient, f"engine-{name}")
    answers = await under_load(impatient, f"engine-{name}", hurt)
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}, statuses
    for answer in answers:
        if answer.status_code == 200:
            said = answer.json()["choices"][0]["message"]["content"]
            assert NAME not in said and "[REDACTED]" in said
        else:
            assert "PII guardrail" in answer.json()["message"]
            assert int(answer.headers["retry-after"]) >= 1
    place = "{catalog_name}.{schema_name}.{table_name_prefix}".format(**table)
    rows = impatient.wait_rows(f"{place}_request_response", REQUESTS)
    assert NAME not in str(rows)
    failed = [row for row in rows if row["status_code"] == 503]
    assert all(row["request"] is None and "REQUEST_NOT_MASKED" in row["logging_error_codes"] for row in failed)
    found = [a for a in impatient.rows(f"{place}_assessment") if a["assessment_result"] == "BLOCKED"]
    assert {a["request_id"] for a in found} >= {row["request_id"] for row in failed}
    assert all("error" in json.loads(a["assessment_details"]) for a in found)


async def test_an_endpoint_may_let_pass_what_could_not_be_checked_and_its_row_says_so(impatient):
    table = guarded(impatient, "engine-allowed", on_error="allow")
    answers = await under_load(impatient, "engine-allowed", lambda pid: os.kill(pid, signal.SIGKILL))
    assert {answer.status_code for answer in answers} == {200}
    place = "{catalog_name}.{schema_name}.{table_name_prefix}".format(**table)
    rows = {row["request_id"]: row for row in impatient.wait_rows(f"{place}_request_response", REQUESTS)}
    unchecked = [a for a in answers if NAME in a.json()["choices"][0]["message"]["content"]]
    assert unchecked
    for answer in unchecked:
        row = rows[answer.headers["x-request-id"]]
        assert row["request"] is None
        assert [g["result"] for g in row["guardrails"]] == ["UNCHECKED"]


@pytest.fixture(scope="module")
def judged_by_a_model(running_stack, tmp_path_factory):
    """Safety is judged by a serving endpoint of the gateway itself, `judge`, which says `safe` unless it is told otherwise."""
    secrets, port = tmp_path_factory.mktemp("secrets"), str(free_port())
    settings = {
        "SLUICE_SAFETY_ENGINE": "llama-guard", "SLUICE_SAFETY_MODEL": "judge", "SLUICE_SAFETY_KEY": "{{secrets/safety/token}}",
        "SLUICE_SAFETY_URL": f"http://127.0.0.1:{port}/serving-endpoints", "SLUICE_SECRETS": str(secrets),
        "SLUICE_GUARDRAIL_TIMEOUT_S": "3",
    }  # fmt: skip
    with running_stack("--workers", "2", "--no-tables", "--port", port, **settings) as stack:
        stack.create_endpoint("judge", entities=[stack.entity("say-safe")])
        (secrets / "safety").mkdir()
        (secrets / "safety" / "token").write_text(stack.token("safety@example.com"))
        stack.create_endpoint("judged", {"guardrails": {"input": {"safety": True}}}, entities=[stack.entity("echo+judged")])
        yield stack


def test_a_model_behind_the_gateway_judges(judged_by_a_model):
    stack = judged_by_a_model
    body = {"messages": [{"role": "user", "content": "hello"}]}
    with stack.http() as client:
        assert client.post("/serving-endpoints/judged/invocations", json=body).status_code == 200
        behave(stack.demo_url, "say-safe", "say-unsafe\nS10,S1")
        blocked = client.post("/serving-endpoints/judged/invocations", json=body)
    assert blocked.status_code == 400
    (verdict,) = json.loads(blocked.json()["message"])["input_guardrail"]
    assert {name for name, found in verdict["categories"].items() if found} == {"hate", "violent-crimes"}


@pytest.mark.parametrize("behaviour", ["hang", "close", "fail-500", "fail-429", "say-perhaps", "garbage", "huge-9"])
async def test_a_model_that_does_not_judge_lets_nothing_pass(judged_by_a_model, behaviour):
    stack = judged_by_a_model
    before = len(calls(stack.demo_url, model="echo+judged"))
    behave(stack.demo_url, "say-safe", behaviour, times=20)
    gate = asyncio.Semaphore(16)
    headers = {"authorization": f"Bearer {stack.admin_token}"}
    async with httpx.AsyncClient(base_url=stack.host, timeout=60, headers=headers) as client:

        async def one(number: int) -> int:
            async with gate:
                return (await asked(client, "judged", number)).status_code

        statuses = Counter(await asyncio.gather(*(one(n) for n in range(60))))
    assert statuses[503] == 20
    assert statuses[200] == 40
    assert len(calls(stack.demo_url, model="echo+judged")) - before == 40
