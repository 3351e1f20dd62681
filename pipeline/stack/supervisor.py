"""Keeps the parts of a stack running: starts each as a process, says when it is ready, starts it again when it dies, stops all in order.

    _keep (one per part)    start ── ready line ── ... ── exit ── pause 0.5 s..10 s ── start
    stop                    by stop_order: ingress takes nothing new, workers finish, the table job, the broker last; each within a bound

A part is ready when it prints `SLUICE READY <part> <detail>` (or its own probe says so). A part that dies several times before it
was ever ready fails the whole start, with the end of its log: nobody wants to wait for what can't work. It knows nothing of what
the parts do.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.stack.data_folder import PartState
from pipeline.stack.process import ChildProcess, PartFailed

READY = "SLUICE READY"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
# A part that has been up this long has recovered: its next death starts with the shortest pause again.
STEADY_S = 30.0
FAILED_STARTS = 3
MAX_LOG_BYTES = 64 * 1024 * 1024
LOG_CHECK_S = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """One process. `prepare` runs before each start; `probe` returns when it is ready (None: its line on stdout says so).

    `detail` is said with "ready" where a probe has found it so.
    """

    name: str
    argv: Sequence[str]
    stop_order: int
    stop_grace_s: float = 20.0
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    prepare: Callable[[], object] | None = None
    probe: Callable[[], Awaitable[None]] | None = None
    detail: str = ""


@dataclass(slots=True)
class _Running:
    part: Part
    log: Path
    child: ChildProcess | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    was_ready: bool = False
    failure: str | None = None
    restarts: int = 0
    task: asyncio.Task[None] | None = None


class Supervisor:
    """`say` prints one line for people; `changed` is told after each change of any part's state."""

    def __init__(self, logs: Path, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._logs, self._say, self._changed = logs, say, changed
        self._parts: dict[str, _Running] = {}
        self._stopping = False
        self._began = time.monotonic()
        self._trimmer: asyncio.Task[None] | None = None

    def states(self) -> dict[str, PartState]:
        """All parts as they are now."""
        return {
            name: PartState(pid=r.child.pid if r.child else None, ready=r.child is not None and r.ready.is_set(), restarts=r.restarts)
            for name, r in self._parts.items()
        }

    def start(self, part: Part) -> None:
        """Start a part and keep it running from now on."""
        log = self._logs / f"{part.name}.log"
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        running = _Running(part, log)
        self._parts[part.name] = running
        running.task = asyncio.create_task(self._keep(running), name=f"keep {part.name}")
        if self._trimmer is None:
            self._trimmer = asyncio.create_task(self._trim_logs(), name="trim logs")

    async def wait_ready(self, names: Sequence[str], timeout_s: float) -> None:
        """Return when these parts are ready. Raises PartFailed, with the end of the log, where one can't be started or isn't in time."""
        deadline = time.monotonic() + timeout_s
        while late := [name for name in names if not self._parts[name].ready.is_set()]:
            for running in self._parts.values():
                if running.failure:
                    raise PartFailed(running.failure)
            if time.monotonic() > deadline:
                raise PartFailed(f"{late[0]} is not ready after {timeout_s:.0f} s{_log_end(self._parts[late[0]].log)}")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop all parts in their order; returns when none is left."""
        self._stopping = True
        for order in sorted({r.part.stop_order for r in self._parts.values()}):
            group = [r for r in self._parts.values() if r.part.stop_order == order]
            await asyncio.gather(*(self._stop_one(r) for r in group))
        if self._trimmer:
            self._trimmer.cancel()
            await asyncio.gather(self._trimmer, return_exceptions=True)

    def kill(self) -> None:
        """SIGKILL to every part, now."""
        self._stopping = True
        for running in self._parts.values():
            if running.child:
                running.child.kill_group()

    async def _stop_one(self, running: _Running) -> None:
        child = running.child
        if child is not None:
            child.signal(signal.SIGTERM)
            deadline = time.monotonic() + running.part.stop_grace_s
            while child.exit_code() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            if child.exit_code() is None:
                self._say(f"{running.part.name} did not stop within {running.part.stop_grace_s:.0f} s and was killed; see {running.log}")
            child.kill_group()
        if running.task:
            # Between two starts there is only the pause to end; a started part's task ends with its process.
            if child is None:
                running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)

    async def _keep(self, running: _Running) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            began = time.monotonic()
            try:
                ending = await self._run_once(running)
            except PartFailed as exc:
                ending = exc.message
            if self._stopping:
                return
            if not running.was_ready and running.restarts + 1 >= FAILED_STARTS:
                running.failure = f"{running.part.name} can't be started: it {ending}{_log_end(running.log)}"
                return
            if time.monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            running.restarts += 1
            self._say(f"{running.part.name} {ending}; starting it again in {pause_s:g} s (log: {running.log})")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _run_once(self, running: _Running) -> str:
        """Start the part and see it to its end; says how it ended."""
        part = running.part
        running.ready.clear()
        if part.prepare is not None:
            await asyncio.to_thread(part.prepare)
        if self._stopping:
            return "was stopped"
        child = ChildProcess(part.argv, running.log, env=part.env, cwd=part.cwd, pipe_stdout=True)
        running.child = child
        self._changed()
        probing = asyncio.create_task(self._probe(running)) if part.probe else None
        try:
            await self._read_stdout(running, child)
            while (code := child.exit_code()) is None:
                await asyncio.sleep(0.05)
        finally:
            if probing:
                probing.cancel()
                await asyncio.gather(probing, return_exceptions=True)
            child.kill_group()
            running.child = None
            self._changed()
        return f"ended with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    async def _probe(self, running: _Running) -> None:
        assert running.part.probe is not None
        await running.part.probe()
        self._became_ready(running, running.part.detail)

    async def _read_stdout(self, running: _Running, child: ChildProcess) -> None:
        """Copy what the part prints into its log, and look for its ready line, until it closes its stdout."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), child.stdout)
        rest = b""
        while data := await reader.read(65_536):
            with running.log.open("ab") as log:
                log.write(data)
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-1_000:]
            for line in lines:
                text = line.decode("utf-8", "replace")
                if text.startswith(f"{READY} "):
                    self._became_ready(running, text.removeprefix(f"{READY} ").partition(" ")[2])

    def _became_ready(self, running: _Running, detail: str) -> None:
        running.was_ready = True
        running.ready.set()
        again = " again" if running.restarts else ""
        self._say(f"{running.part.name} ready{again} {detail}".rstrip() + f"  ({time.monotonic() - self._began:.1f} s)")
        self._changed()

    async def _trim_logs(self) -> None:
        """Keep each log within a bound. The parts append, so the file can be emptied under them."""
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for running in self._parts.values():
                if running.log.exists() and running.log.stat().st_size > MAX_LOG_BYTES:
                    await asyncio.to_thread(shutil.copyfile, running.log, running.log.with_suffix(".log.1"))
                    running.log.write_bytes(b"")


def _log_end(log: Path, lines: int = 8) -> str:
    """The last lines of a log, indented, for an error message; empty where there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8_192))
            last = file.read().decode("utf-8", "replace").strip().splitlines()[-lines:]
    except OSError:
        last = []
    return f"; the end of {log}:\n" + "\n".join(f"    {line}" for line in last) if last else f"; its log, {log}, is empty"
