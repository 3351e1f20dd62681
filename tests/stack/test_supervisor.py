"""The supervisor with small real processes as parts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.stack import supervisor as supervisor_module
from pipeline.stack.process import ChildProcess, PartFailed
from pipeline.stack.supervisor import Part, Supervisor

DEADLINE_S = 15.0
GOOD = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("SLUICE READY", sys.argv[1], "here", flush=True)
stop.wait(60)
open(sys.argv[2], "a").write(sys.argv[1] + "\\n")
"""
STUBBORN = """
import signal, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("SLUICE READY", sys.argv[1], flush=True)
threading.Event().wait(60)
"""


def part(tmp_path: Path, name: str, code: str = GOOD, stop_order: int = 0, grace_s: float = 10.0) -> Part:
    return Part(name, [sys.executable, "-c", code, name, str(tmp_path / "ended")], stop_order, grace_s)


def gone(pid: int) -> bool:
    """Whether no such process runs (a zombie that nobody has waited for counts as gone)."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not {what} after {DEADLINE_S} s"
        await asyncio.sleep(0.02)


async def test_parts_become_ready_and_stop_in_their_order(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Supervisor(tmp_path / "logs", said.append, lambda: None)
    for name, order in (("broker", 3), ("door", 0), ("worker", 1)):
        keeper.start(part(tmp_path, name, stop_order=order))
    await keeper.wait_ready(["broker", "door", "worker"], DEADLINE_S)
    pids = [state.pid for state in keeper.states().values()]
    assert all(state.ready for state in keeper.states().values())
    assert any(line.startswith("door ready here") for line in said)
    await keeper.stop()
    assert (tmp_path / "ended").read_text().split() == ["door", "worker", "broker"]
    assert all(pid is not None and gone(pid) for pid in pids)


async def test_a_part_that_is_killed_is_started_again_and_said_so(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Supervisor(tmp_path / "logs", said.append, lambda: None)
    keeper.start(part(tmp_path, "worker"))
    try:
        await keeper.wait_ready(["worker"], DEADLINE_S)
        before = keeper.states()["worker"].pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await until(lambda: keeper.states()["worker"].ready and keeper.states()["worker"].pid != before, "ready again")
        assert keeper.states()["worker"].restarts == 1
        assert any("was ended by SIGKILL; starting it again in 0.5 s" in line for line in said)
    finally:
        await keeper.stop()


async def test_a_part_that_was_never_ready_fails_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    keeper = Supervisor(tmp_path / "logs", lambda _: None, lambda: None)
    keeper.start(part(tmp_path, "worker", "import sys; sys.exit('no such thing as this')"))
    try:
        with pytest.raises(PartFailed, match=r"worker can't be started: it ended with code 1(?s:.*)no such thing as this"):
            await keeper.wait_ready(["worker"], DEADLINE_S)
    finally:
        await keeper.stop()


async def test_a_part_that_ignores_the_signal_is_killed_after_its_grace(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Supervisor(tmp_path / "logs", said.append, lambda: None)
    keeper.start(part(tmp_path, "stubborn", STUBBORN, grace_s=0.5))
    await keeper.wait_ready(["stubborn"], DEADLINE_S)
    pid = keeper.states()["stubborn"].pid
    began = time.monotonic()
    await keeper.stop()
    assert time.monotonic() - began < 5
    assert pid is not None and gone(pid)
    assert any("did not stop within" in line for line in said)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    keeper = Supervisor(tmp_path / "logs", lambda _: None, lambda: None)
    keeper.start(Part("worker", ["/no/such/program"], 0))
    try:
        with pytest.raises(PartFailed, match="/no/such/program can't be started"):
            await keeper.wait_ready(["worker"], DEADLINE_S)
    finally:
        await keeper.stop()


async def test_a_log_that_grows_too_large_is_emptied_and_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "MAX_LOG_BYTES", 1_000)
    monkeypatch.setattr(supervisor_module, "LOG_CHECK_S", 0.1)
    keeper = Supervisor(tmp_path / "logs", lambda _: None, lambda: None)
    chatty = GOOD.replace("stop.wait(60)", "print('x' * 5_000, flush=True); stop.wait(60); print('the end', flush=True)")
    keeper.start(part(tmp_path, "worker", chatty))
    log = tmp_path / "logs" / "worker.log"
    try:
        await keeper.wait_ready(["worker"], DEADLINE_S)
        await until(lambda: log.with_suffix(".log.1").exists() and log.stat().st_size < 1_000, "emptied")
    finally:
        await keeper.stop()
    assert log.read_text() == "the end\n"
    assert len(log.with_suffix(".log.1").read_text()) > 5_000


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal to orphans is Linux's")
def test_no_child_outlives_a_killed_parent(tmp_path: Path) -> None:
    code = """
        import sys, threading
        from pathlib import Path
        from pipeline.stack.process import ChildProcess
        child = ChildProcess([sys.executable, "-c", "import threading; threading.Event().wait(60)"], Path(sys.argv[1]))
        print(child.pid, flush=True)
        threading.Event().wait(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + DEADLINE_S
    while not gone(pid):
        assert time.monotonic() < deadline, "the child lives on"
        threading.Event().wait(0.02)


def test_stopping_a_child_ends_what_it_started_too(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    child = ChildProcess([sys.executable, "-c", code], tmp_path / "log", pipe_stdout=True)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    assert child.stop(5.0) == -signal.SIGTERM
    child.stdout.close()
    deadline = time.monotonic() + DEADLINE_S
    while not gone(grandchild):
        assert time.monotonic() < deadline, "the grandchild lives on"
        threading.Event().wait(0.02)
