"""The watchdog ends a worker that stood still, is stuck or does not read, and no other. What the consumer says is made up here."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from pipeline.worker import watchdog
from pipeline.worker.watchdog import STALLED, STUCK, UNREAD, UNREAD_S, Waiting, Watchdog

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


def looks(dog: Watchdog, *seen: tuple[float, dict]) -> None:
    for now_s, waiting in seen:
        dog._look_at_waiting(waiting, now_s)


def test_records_that_are_not_read_end_the_worker(left):
    dog = Watchdog(session_timeout_s=10, stuck_s=240)
    looks(dog, *((now_s, {PLACE: Waiting(head=7, read=9, end=12 + now_s)}) for now_s in range(0, 60, 5)))
    assert left == []
    looks(dog, (UNREAD_S + 1, {PLACE: Waiting(head=7, read=9, end=90)}))
    assert left == [UNREAD]


@pytest.mark.parametrize(
    "seen",
    [
        # Idle: nothing waits.
        [{}, {}, {}, {}],
        # All is read, and calls take long.
        [{PLACE: Waiting(7, 11, 12)}] * 4,
        # Slow, but it goes on.
        [{PLACE: Waiting(7, read, 500)} for read in (7, 8, 9, 10)],
        # A long call, and what comes meanwhile is read at once.
        [{PLACE: Waiting(7, 11, 12)}, {PLACE: Waiting(7, 11, 12)}, {PLACE: Waiting(7, 11, 20)}, {PLACE: Waiting(7, 19, 20)}],
        # A rebalance between, or a broker that does not answer.
        [{PLACE: Waiting(7, 9, 12)}, {}, {PLACE: Waiting(7, 9, 12)}, {PLACE: Waiting(7, 9, 12)}],
    ],
    ids=["idle", "long calls", "slow", "read at once", "interrupted"],
)
def test_a_worker_that_reads_is_let_be(left, seen):
    dog = Watchdog(session_timeout_s=10, stuck_s=240)
    looks(dog, *((30.0 * number, waiting) for number, waiting in enumerate(seen)))
    assert left == []


def test_a_record_that_was_read_and_is_never_finished_ends_the_worker_where_no_later_one_comes(left):
    dog = Watchdog(session_timeout_s=10, stuck_s=240)
    looks(dog, (0.0, {PLACE: Waiting(7, 7, 8)}), (239.0, {PLACE: Waiting(7, 7, 8)}))
    assert left == []
    looks(dog, (241.0, {PLACE: Waiting(7, 7, 8)}))
    assert left == [STUCK]


@pytest.mark.parametrize(("answers", "settles", "counts"), [(True, False, 1), (True, True, 0), (False, False, 0)])
async def test_nothing_counts_in_a_rebalance_or_while_the_broker_does_not_answer(monkeypatch, answers, settles, counts):
    async def waiting():
        if not answers:
            raise TimeoutError
        return {PLACE: Waiting(7, 9, 12)}

    dog = Watchdog(session_timeout_s=10, stuck_s=240)
    looked = asyncio.Event()
    monkeypatch.setattr(dog, "_look_at_waiting", lambda found, now_s: (looked.set(), seen.append(found)))
    seen: list[dict] = []
    watching = asyncio.create_task(dog.watch_reading(SimpleNamespace(waiting=waiting), lambda: settles))
    await asyncio.wait_for(looked.wait(), 5)
    watching.cancel()
    assert len(seen[0]) == counts
    assert dog._broker_answers is answers
