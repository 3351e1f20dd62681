"""The watchdog ends a worker that stood still or is stuck, and no other."""

from types import SimpleNamespace

import pytest
from faust.types import TP

from pipeline.worker import watchdog
from pipeline.worker.watchdog import STALLED, STUCK, Watchdog

PLACE = TP("gateway.admitted", 1)


@pytest.fixture
def left(monkeypatch):
    codes: list[int] = []
    monkeypatch.setattr(watchdog, "leave", lambda code, why: codes.append(code))
    return codes


def at(monkeypatch, time_s: float) -> None:
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: time_s))


def test_a_write_after_a_stall_in_which_the_session_may_have_run_out_ends_the_worker(left, monkeypatch):
    at(monkeypatch, 100.0)
    dog = Watchdog(session_timeout_s=10, stuck_s=60)
    at(monkeypatch, 104.9)
    dog.may_write()
    assert left == []
    # The last heartbeat may lie some seconds back when the loop stops: the broker counts from there.
    at(monkeypatch, 105.1)
    dog.may_write()
    assert left == [STALLED]


def test_an_event_that_holds_up_its_partition_for_too_long_ends_the_worker(left):
    dog = Watchdog(session_timeout_s=10, stuck_s=60)
    dog._look_at({PLACE: 7}, 0.0)
    dog._look_at({PLACE: 7}, 59.0)
    dog._look_at({PLACE: 8}, 61.0)
    assert left == []
    dog._look_at({PLACE: 8}, 121.5)
    assert left == [STUCK]
