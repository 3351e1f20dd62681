"""Processes of the benchmark: started in a group of their own with their output in a file, ready when said so, stopped for sure."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_S = 0.1
STOP_S = 40.0


class NotReady(Exception):
    """A process ended, or was not ready in time; the text holds the end of its output."""


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], log: Path, ready: Callable[[str], bool], timeout_s: float, env: dict[str, str] | None = None
) -> Iterator[str]:
    """Run `command` while the block runs; yields its output up to the moment at which `ready(output)` was true."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "LITELLM_")) or k == "SLUICE_JARS"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=clean | (env or {}), start_new_session=True)
    try:
        yield _wait(process, log, ready, timeout_s)
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[str], bool], timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    while True:
        output = log.read_text(errors="replace")
        if ready(output):
            return output
        if process.poll() is not None or time.monotonic() > deadline:
            state = "ended" if process.poll() is not None else f"was not ready within {timeout_s:.0f} s"
            raise NotReady(f"{process.args!r} {state}:\n{output[-2_000:]}")
        time.sleep(POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    # Whatever its children left behind, so that nothing disturbs the next measurement.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
