"""The rate limits' arithmetic: exact, refusing without a trace, and the same again when a crash replays a part of the log."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.limits import Counter, CounterId, counter_id, judge, seconds_left, window_start_s
from pipeline.endpoints import RateLimit


def a_limit(calls: int, period: str = "minute", key: str = "endpoint") -> RateLimit:
    return RateLimit(calls=calls, renewal_period=period, key=key)


class Windows:
    """A model of the tables: what each counter of each window holds, and every state it has had."""

    def __init__(self) -> None:
        self.state: dict[tuple[CounterId, int], Counter] = {}
        self.history: dict[tuple[CounterId, int], list[tuple[int, Counter]]] = {}

    def judge(self, limits: list[RateLimit], user: str, offset: int, time_ms: int) -> bool:
        ids = [counter_id(limit, "id", "endpoint", user) for limit in limits]

        def place(cid: CounterId) -> tuple[CounterId, int]:
            return cid, window_start_s(cid.period, time_ms)

        verdict = judge(limits, ids, lambda cid: self.state.get(place(cid), Counter()), offset=offset, time_ms=time_ms)
        for cid, counter in verdict.writes:
            self.state[place(cid)] = counter
            self.history.setdefault(place(cid), [(-1, Counter())]).append((offset, counter))
        return verdict.refused_by is None


events = st.lists(st.tuples(st.sampled_from(["u1", "u2", "u3"]), st.integers(0, 900)), min_size=1, max_size=60)
limit_sets = st.lists(
    st.builds(a_limit, st.integers(0, 8), st.sampled_from(["second", "minute"]), st.sampled_from(["endpoint", "user"])),
    min_size=1,
    max_size=4,
)


@given(events=events, limits=limit_sets)
def test_every_window_holds_exactly_its_limit_where_it_alone_refuses(events, limits):
    windows, time_ms = Windows(), 0
    admitted = []
    for offset, (user, step_ms) in enumerate(events):
        time_ms += step_ms
        if windows.judge(limits, user, offset, time_ms):
            admitted.append((user, time_ms))
        else:
            # A refusal needs a full window: one whose limit is used up by admitted requests of the same window and subject.
            assert any(
                sum(
                    window_start_s(limit.renewal_period, t) == window_start_s(limit.renewal_period, time_ms)
                    and (limit.key == "endpoint" or u == user)
                    for u, t in admitted
                )
                >= limit.calls
                for limit in limits
            )
    for limit in limits:
        used: dict[tuple[int, str], int] = {}
        for user, t in admitted:
            place = window_start_s(limit.renewal_period, t), user if limit.key == "user" else ""
            used[place] = used.get(place, 0) + 1
        assert all(count <= limit.calls for count in used.values())


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), limits=limit_sets, events=events)
def test_a_replay_gives_the_first_run_s_decisions_whatever_part_of_the_changelog_survived(seed, limits, events):
    rng = random.Random(seed)
    times, time_ms = [], 0
    for _, step_ms in events:
        time_ms += step_ms
        times.append(time_ms)
    windows = Windows()
    first = [windows.judge(limits, user, offset, times[offset]) for offset, (user, _) in enumerate(events)]
    committed = rng.randrange(len(events))
    # What was written before the commit is in the log for certain; of what came later, any prefix of each key's writes.
    for place, states in windows.history.items():
        certain = max(i for i, (offset, _) in enumerate(states) if offset < committed)
        windows.state[place] = states[rng.randrange(certain, len(states))][1]
    again = [windows.judge(limits, events[o][0], o, times[o]) for o in range(committed, len(events))]
    assert again == first[committed:]


def test_a_refusal_names_the_limit_that_lasts_longest_and_writes_nothing():
    limits = [a_limit(0, "second"), a_limit(0, "hour"), a_limit(5, "minute")]
    ids = [counter_id(limit, "id", "e", "u") for limit in limits]
    verdict = judge(limits, ids, lambda _: Counter(), offset=7, time_ms=1_500)
    assert verdict.refused_by is limits[1]
    assert verdict.writes == ()
    assert verdict.retry_after_s == 3_599


def test_the_smallest_share_left_is_reported():
    limits = [a_limit(100, "minute"), a_limit(10, "hour")]
    ids = [counter_id(limit, "id", "e", "u") for limit in limits]
    counters = {ids[0]: Counter(89, 5), ids[1]: Counter(4, 5)}
    verdict = judge(limits, ids, counters.__getitem__, offset=6, time_ms=0)
    assert verdict.remaining is not None
    assert verdict.remaining.as_dict() == {"limit": 100, "remaining": 10, "reset_s": 60}


def test_two_limits_on_one_counter_count_once():
    limits = [a_limit(5), a_limit(3)]
    ids = [counter_id(limit, "id", "e", "u") for limit in limits]
    verdict = judge(limits, ids, lambda _: Counter(1, 0), offset=1, time_ms=0)
    assert verdict.writes == ((ids[0], Counter(2, 1)),)


@pytest.mark.parametrize(
    ("period", "time_ms", "start_s", "left_s"),
    [
        ("second", 1_999, 1, 1),
        ("minute", 59_999, 0, 1),
        ("minute", 60_000, 60, 60),
        ("hour", 3_600_001, 3_600, 3_600),
        ("day", 86_400_000 * 20_000 + 1_000, 86_400 * 20_000, 86_399),
    ],
)
def test_windows_are_aligned_to_the_epoch(period, time_ms, start_s, left_s):
    assert window_start_s(period, time_ms) == start_s
    assert seconds_left(period, time_ms) == left_s
