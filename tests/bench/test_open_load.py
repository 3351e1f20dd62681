"""The open loop keeps its rate whatever the answers take, counts latency from when a request was due, and counts what is no 200."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import tail, targets
from tests.bench.open_load import Found, Phase, Plan, run_apart


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("bench")
    with targets.upstream(folder) as url:
        yield f"{url}/v1/chat/completions"


def load(url: str, phases: list[Phase]) -> list[Found]:
    return run_apart(Plan(url, {}, targets.BODY, 100.0, phases, longest_s=1.0))


def test_slow_answers_do_not_slow_the_requests_and_only_named_phases_are_measured(upstream: str) -> None:
    [fast, slow] = load(upstream, [Phase("fast", 0.5, "m"), Phase("", 0.5, "slow-0.5"), Phase("slow", 0.5, "slow-0.5")])
    assert (len(fast.latencies_ms), len(slow.latencies_ms)) == (50, 50)
    # A timer may be a millisecond early.
    assert min(fast.latencies_ms) < 490 < min(slow.latencies_ms)
    # Little's law: a hundred a second that take half a second, or more on a busy machine.
    assert fast.in_flight < slow.in_flight and slow.in_flight > 45


def test_each_nth_goes_elsewhere_unmeasured_and_is_given_up(upstream: str) -> None:
    [found] = load(upstream, [Phase("with", 0.5, "m", "slow-600", every=10, give_up=True)])
    assert len(found.latencies_ms) == 45
    assert found.other == {}


def test_what_is_no_200_is_counted_and_never_timed(upstream: str) -> None:
    [found] = load(upstream, [Phase("bad", 0.2, "fail-503", "close", every=2)])
    assert found.latencies_ms == []
    assert found.other == {"503": 10, "ServerDisconnectedError": 10}


def test_ratios_are_of_what_is_added_to_the_provider() -> None:
    added_ms = {"few": (2, 2), "many": (4, 3)}
    founds = [Found(arm, [taken_ms + ms] * 100) for arm, taken_ms in (("few", 500), ("many", 9_000)) for ms in added_ms[arm]]
    pooled, by_round = tail.ratios(founds, "few", "many", {"few": 0.5, "many": 9.0})
    assert (pooled, by_round) == (2.0, 1.75)


def test_an_arm_is_measured_once_what_makes_it_has_filled_up() -> None:
    phases = tail.long_calls(30.0, 2)
    assert [phase.name for phase in phases] == ["", "without", "", "with"] * 2
    assert phases[2].seconds >= tail.LONG_S and phases[2].other == phases[3].other == "long"
    phases = tail.in_flight("few", "many", 10.0, 30.0, 1)
    assert [(phase.name, phase.endpoint) for phase in phases] == [("", "few"), ("50", "few"), ("", "many"), ("2000", "many"), ("", "many")]
    assert min(phase.seconds for phase in phases) >= 10
