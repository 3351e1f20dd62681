"""One child process: started in a group of its own, stopped within a bound, and never outliving the process that started it.

The kernel kills the child when its parent dies, however that dies (Linux; elsewhere a parent that was killed with SIGKILL leaves its
children behind). Knows nothing of what runs inside. A program that can't be started raises PartFailed with its name.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from pipeline.errors import SluiceError

PR_SET_PDEATHSIG = 1


class PartFailed(SluiceError):
    """A part of the stack could not be started, or did not become ready."""


def _die_with(parent: int) -> Callable[[], None]:
    """What the child does before it becomes the program. The library is loaded here, in the parent: after fork is too late."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def before_exec() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # It died between fork and prctl: nobody will send the signal any more.
                os._exit(1)

    return before_exec


class ChildProcess:
    """A running program. Start it from the main thread: the kernel binds the child's life to the thread that started it."""

    def __init__(
        self, argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None, pipe_stdout: bool = False
    ) -> None:
        """Start `argv`; stderr goes to the end of `log`, stdout too unless `pipe_stdout`. `env` is added to this process's own."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            try:
                self._process = subprocess.Popen(  # noqa: S603  the stack starts its own parts only
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if pipe_stdout else out,
                    stderr=out,
                    env={**os.environ, **(env or {})},
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()),
                )
            except OSError as exc:
                raise PartFailed(f"{argv[0]} can't be started: {exc.strerror}") from None

    @property
    def pid(self) -> int:
        """The process id, which is the id of its group as well."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """What the program prints, where `pipe_stdout` was asked for."""
        return self._process.stdout

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone: it stops its own children in its own order."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL to all that is left of its process group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def stop(self, grace_s: float) -> int:
        """SIGTERM, then after `grace_s` seconds SIGKILL to the group; returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            code = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            code = self._process.wait()
        self.kill_group()
        return code
