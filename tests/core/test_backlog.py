"""What is expected of a queue's wait: from a simulated queue whose readers commit once a second, and is looked at once a second."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.backlog import MEASURED_S, REMEMBERED_S, UNSEEN_S, Backlog

STEP_S = 0.1


class Queue:
    """Records come and are worked off at given rates, in steps of 0.1 s; `offset_s` is how long after a commit it is looked at."""

    def __init__(self, look_s: float = 0.0) -> None:
        self.backlog = Backlog()
        self.time_s = self.come = self.done = 0.0
        self.committed = 0
        self._ticks, self._look = 0, round(look_s / STEP_S)

    def run(self, seconds: float, arrivals: float, capacity: float, each_second: Callable[[], None] = lambda: None) -> Backlog:
        for _ in range(round(seconds / STEP_S)):
            self._ticks += 1
            self.time_s = self._ticks * STEP_S
            self.come += arrivals * STEP_S
            self.done = min(self.done + capacity * STEP_S, self.come)
            if self._ticks % 10 == 0:
                self.committed = int(self.done)
            if self._ticks % 10 == self._look:
                self.backlog.observe(self.time_s, self.committed, int(self.come))
                each_second()
        return self.backlog


looks = st.floats(0, 0.9)


@given(arrivals=st.floats(0, 5_000), idle_s=st.integers(0, 300), busy_s=st.integers(1, 100), share=st.floats(0.05, 0.99), look_s=looks)
def test_readers_that_keep_up_let_nobody_wait(arrivals: float, idle_s: int, busy_s: int, share: float, look_s: float) -> None:
    queue = Queue(look_s)
    queue.run(idle_s, 0, 1)
    waits: list[float] = []
    queue.run(busy_s, arrivals, arrivals / share, lambda: waits.append(queue.backlog.wait_s))
    assert max(waits, default=0) <= 2 / max(arrivals, 1)


@given(arrivals=st.floats(20, 5_000), share=st.floats(1.2, 20), busy_s=st.integers(20, 200), look_s=looks)
def test_a_flood_is_expected_to_wait_as_long_as_it_will(arrivals: float, share: float, busy_s: int, look_s: float) -> None:
    queue = Queue(look_s)
    backlog = queue.run(busy_s, arrivals, arrivals / share)
    true_s = (queue.come - queue.done) / (arrivals / share)
    assert abs(backlog.wait_s + UNSEEN_S - true_s) <= max(0.3 * true_s, 3)
    # As soon as it has been worked off nobody waits.
    queue.run(true_s + 3, 0, arrivals / share)
    assert (backlog.lag, backlog.wait_s, backlog.rate) == (0, 0, None)


@given(lag=st.integers(1, 100_000), still_s=st.integers(4, 3_600))
def test_a_standstill_lasts_at_least_as_long_as_it_has_lasted(lag: int, still_s: int) -> None:
    backlog = Backlog()
    for second in range(still_s + 1):
        backlog.observe(float(second), 7, 7 + lag)
    assert backlog.wait_s == still_s - UNSEEN_S
    assert len(backlog._seen) <= 2


@given(capacity=st.floats(10, 2_000), still_s=st.integers(1, 600))
def test_a_standstill_after_work_never_shortens_the_wait_and_is_forgotten_when_it_is_over(capacity: float, still_s: int) -> None:
    queue = Queue()
    backlog = queue.run(20, capacity * 2, capacity)
    waits = [backlog.wait_s]
    queue.run(still_s, 0, 0, lambda: waits.append(backlog.wait_s))
    assert waits == sorted(waits)
    assert waits[-1] >= still_s - 1 - UNSEEN_S
    queue.run(10, capacity * 2, capacity)
    assert backlog.rate is not None
    # Of a long standstill only what is remembered still counts.
    assert backlog.rate >= 0.9 * capacity * 9 / (REMEMBERED_S + 1)
    queue.run(REMEMBERED_S - 9, capacity * 2, capacity)
    assert backlog.rate is not None
    assert 0.9 * capacity <= backlog.rate <= 1.1 * capacity


def test_one_lump_says_nothing_of_the_rate() -> None:
    backlog = Backlog()
    backlog.observe(0, 0, 0)
    # A burst of which one record was finished when the commit was made.
    backlog.observe(1, 1, 10_000)
    assert (backlog.rate, backlog.wait_s) == (None, 0)
    backlog.observe(MEASURED_S, 1, 10_000)
    assert backlog.rate == 0.2


def test_offsets_that_go_back_begin_anew() -> None:
    backlog = Backlog()
    backlog.observe(0, 100, 200)
    backlog.observe(10, 150, 200)
    assert backlog.rate == 5
    backlog.observe(11, 0, 20)
    assert (backlog.lag, backlog.rate, backlog.wait_s) == (20, None, 0)
    backlog.observe(12, 30, 20)
    assert (backlog.lag, backlog.wait_s) == (0, 0)


def test_what_is_remembered_is_bounded() -> None:
    backlog = Backlog()
    for second in range(1_000):
        backlog.observe(second, second // 3, 1_000)
    assert len(backlog._seen) <= REMEMBERED_S + 2
