"""`sluice up` as a whole: ready, restarts, one at a time, nothing left behind, everything found again."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.stack.data_folder import DataFolder, StackState

FreshStack = Callable[..., Any]


def processes_of(data: Path) -> set[int]:
    """Every process whose command line or environment names this data folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(data).encode() in told and int(entry.name) != os.getpid():
            found.add(int(entry.name))
    return found


def wait_until_gone(data: Path, timeout_s: float = 10.0) -> set[int]:
    deadline = time.monotonic() + timeout_s
    while (left := processes_of(data)) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    return left


def answers(stack: Any, endpoint: str) -> bool:
    """Whether the endpoint answers; where it doesn't, the test fails with what it said instead."""
    with stack.http() as client:
        answer = client.post(f"/serving-endpoints/{endpoint}/invocations", json={"messages": [{"role": "user", "content": "hello"}]})
    assert answer.status_code == 200, (answer.text, stack.state(), stack.lines)
    return True


@pytest.mark.timeout(240)
def test_the_stack_says_what_is_ready_restarts_what_dies_and_ctrl_c_leaves_nothing_behind(fresh_stack: FreshStack) -> None:
    stack = fresh_stack("--workers", "2", "--no-tables")
    for part in ("kafka", "worker-0", "worker-1", "ingress", "demo-provider"):
        assert any(line.startswith(f"{part} ready") for line in stack.lines), stack.lines
    assert stat.S_IMODE((stack.data / "admin-token").stat().st_mode) == 0o600
    stack.create_endpoint("kept")
    assert answers(stack, "kept")

    # A second one on the same folder is refused; it names the first.
    second = subprocess.run(
        [sys.executable, "-m", "pipeline", "up", "--data", str(stack.data), "--port", "0"], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"process {stack.pid}" in second.stderr and len(second.stderr.splitlines()) == 1

    before = stack.state().parts
    for part in ("worker-0", "ingress"):
        os.kill(before[part].pid, signal.SIGKILL)

    def back(state: StackState) -> bool:
        return all(state.parts[p].ready and state.parts[p].pid != before[p].pid for p in ("worker-0", "ingress"))

    after = stack.wait_state(back, "restarted")
    assert (after.parts["worker-0"].restarts, after.parts["ingress"].restarts, after.parts["worker-1"].restarts) == (1, 1, 0)
    assert any("worker-0 was ended by SIGKILL; starting it again" in line for line in stack.lines)
    assert answers(stack, "kept")

    token, kafka, demo = stack.admin_token, stack.kafka, stack.demo_url
    assert processes_of(stack.data)
    assert stack.stop() == 0
    assert wait_until_gone(stack.data) == set()
    assert all(p.pid is None for p in stack.state().parts.values())

    # The next start finds endpoint, token and addresses again.
    stack.start()
    assert (stack.admin_token, stack.kafka, stack.demo_url) == (token, kafka, demo)
    assert answers(stack, "kept")


@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal to orphans is Linux's")
def test_a_killed_supervisor_takes_all_parts_with_it_and_the_next_start_works(fresh_stack: FreshStack) -> None:
    stack = fresh_stack("--no-tables")
    stack.create_endpoint("kept")
    demo = stack.demo_url
    stack.kill()
    assert wait_until_gone(stack.data) == set()
    stack.start()
    assert stack.demo_url == demo
    assert answers(stack, "kept")


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path, stack: Any) -> None:
    port = stack.host.rpartition(":")[2]
    refused = subprocess.run(
        [sys.executable, "-m", "pipeline", "up", "--data", str(tmp_path / "d"), "--port", port], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken; choose another with --port" in refused.stderr
    assert not (tmp_path / "d" / "kafka").exists()


@pytest.mark.timeout(240)
def test_an_existing_cluster_is_used_instead_of_a_broker_of_its_own(fresh_stack: FreshStack, tmp_path: Path) -> None:
    first = fresh_stack("--no-tables")
    first.create_endpoint("kept")
    second = fresh_stack("--no-tables", "--kafka", first.kafka)
    assert second.kafka == first.kafka
    assert "kafka" not in second.state().parts and not (second.data / "kafka").exists()
    # One installation with two ingresses: what one made, the other serves.
    assert answers(second, "kept")


def test_the_doctor_finds_nothing_wrong_with_a_healthy_stack_and_a_stopped_worker_at_once(stack: Any) -> None:
    def doctor() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline", "doctor", "--data", str(stack.data)], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip

    healthy = doctor()
    assert healthy.returncode == 0, healthy.stdout
    assert f"Kafka bootstrap address: {stack.kafka}" in healthy.stdout and "2 workers" in healthy.stdout

    folder = DataFolder(stack.data)
    state = stack.state()
    gone = state.model_copy(deep=True)
    gone.parts["worker-1"].pid = None
    folder.write_state(gone)
    try:
        sick = doctor()
    finally:
        folder.write_state(state)
    assert sick.returncode == 1
    assert "worker-1 is not running" in sick.stdout
