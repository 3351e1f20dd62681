"""Busy tables are written more often than quiet ones, by the root of how much busier they are, and no table is forgotten."""

from __future__ import annotations

import heapq
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jobs.landed import Span
from jobs.turns import Work, next_turns

COMMIT_S, AT_ONCE = 0.4, 8


def simulated(rates: dict[str, float], seconds: float) -> tuple[Counter[str], dict[str, float]]:
    """How often each table is written, and how long its oldest row waited at most, where rows come at these rates (a second)."""
    work: dict[str, Work] = {}
    arrivals = [(1 / rate * (number + 1) / len(rates), name) for number, (name, rate) in enumerate(rates.items())]
    heapq.heapify(arrivals)
    now_s, commits, longest = 0.0, Counter[str](), dict.fromkeys(rates, 0.0)
    while now_s < seconds:
        while arrivals[0][0] <= now_s:
            at_s, name = heapq.heappop(arrivals)
            work.setdefault(name, Work(-1, at_s)).add(Span(0, 0, rows=1))
            heapq.heappush(arrivals, (at_s + 1 / rates[name], name))
        turns = next_turns(work.items(), now_s, AT_ONCE)
        for name in turns:
            commits[name] += 1
            longest[name] = max(longest[name], now_s - work.pop(name).waits_s)
        now_s += max(COMMIT_S * len(turns), 0.1)
    return commits, longest


def test_a_table_with_a_hundred_times_the_rows_gets_about_ten_times_the_commits() -> None:
    rates = {"hot": 50.0} | {f"cold-{n}": 0.5 for n in range(100)}
    commits, longest = simulated(rates, 600)
    cold = sum(count for name, count in commits.items() if name != "hot") / 100
    assert 7 < commits["hot"] / cold < 13
    # In turn they would all wait for a hundred commits.
    assert longest["hot"] < 15 < 40 < max(longest.values()) < 60


@given(st.dictionaries(st.text(), st.tuples(st.integers(0, 1000), st.floats(0, 1e6)), max_size=30), st.integers(1, 9))
def test_who_is_left_out_has_waited_less(tables: dict[str, tuple[int, float]], at_once: int) -> None:
    now_s = 1e6
    work = {name: Work(-1, since_s, rows=rows) for name, (rows, since_s) in tables.items()}
    turns = next_turns(work.items(), now_s, at_once)
    assert len(turns) == len(set(turns)) == min(at_once, len(work))
    left_out = [work[name].waiting(now_s) for name in work.keys() - set(turns)]
    assert not left_out or max(left_out) <= min(work[name].waiting(now_s) for name in turns)
