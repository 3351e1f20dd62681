"""The load counts what it gets: 200s with their latencies, everything else by its status."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import orjson
import pytest

from tests.bench import report, targets
from tests.bench.load import Plan


def load(url: str, model: str, clients: int) -> dict[str, Any]:
    plan = Plan(f"{url}/v1/chat/completions", {}, {**targets.BODY, "model": model}, clients, seconds=0.5, warm_up_s=0.1)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"], input=orjson.dumps(asdict(plan)), stdout=subprocess.PIPE, check=True, timeout=30
    )
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with targets.upstream(tmp_path_factory.mktemp("bench")) as url:
        yield url


def test_answers_are_counted_and_timed(upstream: str) -> None:
    found = load(upstream, "slow-0.05", clients=8)
    assert found["other"] == {}
    assert 8 * 5 <= found["ok"] <= 8 * 10
    assert 50 <= found["median_ms"] <= found["p99_ms"] < 250
    assert found["requests_per_s"] == found["ok"] / 0.5


@pytest.mark.parametrize(("model", "kind"), [("slow-0.01+fail-503", "503"), ("slow-0.01+close", "connection lost")])
def test_failures_are_counted_and_never_timed(upstream: str, model: str, kind: str) -> None:
    found = load(upstream, model, clients=4)
    assert (found["ok"], found["requests_per_s"]) == (0, 0)
    assert found["other"][kind] >= 10


def test_ratios_and_added_latency_come_from_the_same_round() -> None:
    def measured(median_ms: float, requests_per_s: float) -> dict[str, Any]:
        one = {"median_ms": median_ms, "other": {}}
        return {"one": one, "many": {"requests_per_s": requests_per_s, "p99_ms": 100.0, "other": {"503": 1}}}

    rounds = [{"direct": measured(d, 9_000), "litellm": measured(d + 10, 100), "sluice": measured(d + 5, 400)} for d in (1.0, 2.0, 9.0)]
    result = report.summary(rounds)
    assert result["litellm"]["added_ms"] == 10
    assert (result["sluice"]["added_ms_ratio"], result["sluice"]["requests_per_s_ratio"], result["sluice"]["not_200"]) == (0.5, 4.0, 3.0)
