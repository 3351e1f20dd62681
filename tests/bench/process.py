"""Processes of the benchmark: started in a group of their own with their output in a file, ready when said so, stopped for sure."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.settings import Settings

POLL_S = 0.1
STOP_S = 40.0


class NotReady(Exception):
    """A process ended, or was not ready in time; the text holds the end of its output."""


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


def table_job(settings: Settings, log: Path, timeout_s: float) -> contextlib.AbstractContextManager[str]:
    """The table job alone, on a data folder and a broker that are there."""
    command = [sys.executable, "-m", "pipeline", "tables", "--data", str(settings.data), "--kafka", settings.kafka]
    return running(command, log, lambda output: "SLUICE READY tables" in output, timeout_s)


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
