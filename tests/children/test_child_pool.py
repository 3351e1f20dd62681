"""A pool of children: each caller gets its own answer or an error, whatever happens to a child."""

import asyncio
import os
import select
import signal
import subprocess
import sys

import pytest

from pipeline.children import ChildPool, ChildUnavailable
from pipeline.children import pool as pool_module

ECHO = "tests.children.echo"
WAIT_S = 30.0


@pytest.fixture
async def pool():
    made = ChildPool("echoes", ECHO)
    assert await made.ask(("ready", 0), timeout_s=WAIT_S) == "ready"
    yield made
    await made.stop()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_values_of_any_kind_come_through(pool):
    for value in ["\ud800 \U0001f600", b"\x00", ("x" * 300_000, None), {"a": frozenset({1})}]:
        assert await pool.ask((value, 0), timeout_s=WAIT_S) == value


async def test_nothing_is_started_before_it_is_needed():
    pool = ChildPool("echoes", ECHO)
    assert pool.pids == []
    await pool.stop()


async def test_a_failure_tells_its_kind_and_none_of_its_text(pool):
    with pytest.raises(ChildUnavailable) as failed:
        await pool.ask(("fail", 0), timeout_s=WAIT_S)
    assert "ValueError" in str(failed.value)
    assert "alice" not in str(failed.value)
    assert await pool.ask(("next", 0), timeout_s=WAIT_S) == "next"


async def test_a_child_that_is_killed_at_work_fails_its_call_and_is_replaced_for_the_next(pool):
    (before,) = pool.pids
    call = asyncio.create_task(pool.ask(("lost", 60), timeout_s=WAIT_S))
    await asyncio.sleep(0)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(ChildUnavailable):
        await call
    assert await pool.ask(("next", 0), timeout_s=WAIT_S) == "next"
    assert len(pool.pids) == 1
    assert pool.pids != [before]


async def test_a_child_that_hangs_fails_its_call_in_time_and_is_replaced(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "HUNG_S", 0.5)
    (before,) = pool.pids
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(ChildUnavailable, match=r"0\.2 s"):
        await pool.ask(("lost", 0), timeout_s=0.2)
    monkeypatch.setattr(pool_module, "HUNG_S", WAIT_S)
    assert await pool.ask(("next", 0), timeout_s=WAIT_S) == "next"
    assert pool.pids != [before]
    assert is_gone(before)


async def test_a_call_that_runs_out_of_time_costs_no_child_and_mixes_no_answers(pool):
    before = pool.pids
    with pytest.raises(ChildUnavailable):
        await pool.ask(("late", 0.3), timeout_s=0.05)
    assert await pool.ask(("next", 0), timeout_s=WAIT_S) == "next"
    assert pool.pids == before


async def test_a_call_whose_caller_has_gone_costs_no_child_and_mixes_no_answers(pool):
    before = pool.pids
    call = asyncio.create_task(pool.ask(("gone", 0.2), timeout_s=WAIT_S))
    waiting = asyncio.create_task(pool.ask(("never begun", 0), timeout_s=WAIT_S))
    for _ in range(3):
        await asyncio.sleep(0)
    call.cancel()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await pool.ask(("next", 0), timeout_s=WAIT_S) == "next"
    assert pool.pids == before


async def test_many_calls_share_the_children_and_each_gets_its_own_answer():
    pool = ChildPool("echoes", ECHO, 2)
    assert await asyncio.gather(*(pool.ask((n, 0), timeout_s=WAIT_S) for n in range(50))) == list(range(50))
    assert len(pool.pids) == 2
    await pool.stop()


async def test_a_stopped_pool_says_so_and_leaves_no_process(pool):
    (before,) = pool.pids
    call = asyncio.create_task(pool.ask(("lost", 60), timeout_s=WAIT_S))
    await asyncio.sleep(0)
    await pool.stop()
    with pytest.raises(ChildUnavailable):
        await call
    with pytest.raises(ChildUnavailable):
        await pool.ask(("more", 0), timeout_s=WAIT_S)
    assert is_gone(before)


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('hello' * 1_000)"])
async def test_what_is_no_child_is_no_answer(program):
    pool = ChildPool("echoes", ECHO)
    pool._command = (sys.executable, "-c", program)
    with pytest.raises(ChildUnavailable):
        await pool.ask(("lost", 0), timeout_s=2)
    await pool.stop()


def test_a_child_ends_with_its_parent():
    program = (
        "import asyncio, os\nfrom pipeline.children import ChildPool\n"
        f"async def main():\n    pool = ChildPool('echoes', '{ECHO}')\n    await pool.ask((1, 0), timeout_s=30)\n"
        "    print(*pool.pids, flush=True)\n    os._exit(0)\nasyncio.run(main())"
    )
    pid = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], WAIT_S)[0]
    finally:
        os.close(handle)
