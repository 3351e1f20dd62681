"""Ids that have landed are never taken for new ones, however long ago, and new ones seldom for landed ones."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import recent_ids
from jobs.recent_ids import RecentIds
from pipeline.topics import DAY_MS


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.integers(0, 9 * DAY_MS), st.integers(0, 2)), max_size=60))
def test_what_has_landed_less_than_a_day_before_or_behind_is_always_known(landed):
    with pytest.MonkeyPatch.context() as patched:
        now_s = 0.0
        patched.setattr(recent_ids, "ITEMS", 4)
        patched.setattr(recent_ids, "TIMES", 3)
        patched.setattr(recent_ids.time, "monotonic", lambda: now_s)
        ids = RecentIds()
        for request_id, timestamp_ms, days in landed:
            now_s += days * DAY_MS / 1000
            ids.add(request_id, timestamp_ms)
        for request_id, timestamp_ms, _ in landed:
            for apart_ms in (-DAY_MS + 1, 0, DAY_MS - 1):
                assert ids.may_hold(request_id, timestamp_ms + apart_ms)
                known_ms = ids.landed_at(request_id, timestamp_ms + apart_ms)
                assert known_ms is None or (
                    abs(known_ms - timestamp_ms - apart_ms) < DAY_MS and (request_id, known_ms) in {one[:2] for one in landed}
                )


def test_what_is_forgotten_costs_no_look_once_it_is_a_day_ago(monkeypatch):
    days = count()
    monkeypatch.setattr(recent_ids.time, "monotonic", lambda: next(days) * (DAY_MS / 1000 + 1))
    ids = RecentIds()
    for number in range(10):
        ids.add(f"day {number}", number * DAY_MS)
    assert not ids.may_hold("new", 9 * DAY_MS)
    assert ids.may_hold("new", 3 * DAY_MS)


def test_new_ids_are_seldom_taken_for_landed_ones():
    ids = RecentIds()
    ids.load((f"landed-{number}", 0) for number in range(20_000))
    assert all(ids.may_hold(f"landed-{number}", DAY_MS) for number in range(20_000))
    assert sum(ids.may_hold(f"new-{number}", DAY_MS) for number in range(20_000)) < 100


def test_with_many_ids_landed_new_ones_are_taken_for_them_no_more_often(monkeypatch):
    monkeypatch.setattr(recent_ids, "ITEMS", 500)
    ids = RecentIds()
    ids.load((f"landed-{number}", 0) for number in range(50_000))
    assert sum(ids.may_hold(f"new-{number}", DAY_MS) for number in range(20_000)) < 20


def test_the_times_of_the_newest_are_known_and_of_no_others(monkeypatch):
    monkeypatch.setattr(recent_ids, "TIMES", 2)
    ids = RecentIds()
    for number in range(3):
        ids.add(f"landed-{number}", number)
    assert [ids.landed_at(f"landed-{number}", 5) for number in range(4)] == [None, 1, 2, None]
    assert ids.landed_at("landed-2", DAY_MS + 1) == 2
    assert ids.landed_at("landed-2", DAY_MS + 2) is None
