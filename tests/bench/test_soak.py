"""The soak's restarts leave ingress and workers lives that are long enough for a slope, and end every part in both ways."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest

from tests.bench.soak import TURNS, plan


@pytest.mark.parametrize("every", [2_000, 20_000])
def test_what_is_judged_lives_through_two_intervals_at_least(every: int) -> None:
    turns = plan(10 * every, every)
    assert [after for after, _, _ in turns] == [every * number for number in range(1, 10)]
    for part in set(TURNS) - {"tables"}:
        ends = [0, *(after for after, whose, _ in turns if whose == part), 10 * every]
        assert min(later - earlier for earlier, later in pairwise(ends)) >= 2 * every
        assert {how for _, whose, how in turns if whose == part} == {signal.SIGTERM, signal.SIGKILL}


def test_nothing_is_restarted_when_the_last_request_is_answered() -> None:
    assert plan(2_000, 2_000) == []
    assert len(plan(2_001, 2_000)) == 1
