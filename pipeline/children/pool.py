"""A pool of child processes, each with a pipe to it and one from it.

Fails closed: `ask` returns a whole answer or raises ChildUnavailable. A child that died or has hung for HUNG_S is killed and another
started in its place; the next call waits for it. An answer for which its caller has no more time is waited for and thrown away, since a
new child costs more (up to two seconds) than letting one finish.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pipeline
from pipeline.children.frames import LENGTH, packed, unpacked

# A child is ready after one to two seconds; on a machine that starts everything at once, after several times that.
START_TIMEOUT_S: Final = 60.0
# The longest that one request may take; whoever waits has given up before (`guardrail_timeout_s` is at most this).
HUNG_S: Final = 15.0


class ChildUnavailable(Exception):
    """No whole answer: no child was free, or it died, hung or failed. What was to be looked at must not pass. Its text holds none of it."""


class _Child:
    """One process that is ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process, self._requests, self._answers = process, process.stdin, process.stdout

    @classmethod
    async def started(cls, command: Sequence[str]) -> _Child:
        """A child that is ready. Raises ChildUnavailable where it isn't in time."""
        # The child must find this package wherever it was started.
        root = str(Path(pipeline.__file__).parent.parent)
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        pipe = asyncio.subprocess.PIPE
        creating = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment))
        try:
            # A creation that is cut off half way would leave a process that nobody knows of.
            child = cls(await asyncio.shield(creating))
        except asyncio.CancelledError:
            await cls(await creating).kill()
            raise
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await child._frame()  # It says that it is ready.
        except BaseException as exc:
            await child.kill()
            if isinstance(exc, Exception):
                raise ChildUnavailable(f"a process ({command[-1]}) did not start") from exc
            raise
        return child

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, request: bytes) -> Any:
        """The answer to one request. Raises OSError or EOFError (an IncompleteReadError) where the child is gone."""
        self._requests.write(request)
        await self._requests.drain()
        return await self._frame()

    async def _frame(self) -> Any:
        (size,) = LENGTH.unpack(await self._answers.readexactly(LENGTH.size))
        return unpacked(await self._answers.readexactly(size))

    async def kill(self) -> None:
        if self.alive:
            self.process.kill()
        self._requests.close()
        await self.process.wait()


class ChildPool:
    """`children` processes that run `module`, each answering one request at a time; further requests wait for a free one.

    They are started when they are first needed. `what`: what they do, for messages ("names").
    """

    def __init__(self, what: str, module: str, children: int = 1) -> None:
        if children < 1:
            raise ValueError("a pool needs at least one child")
        self._what, self._command = what, (sys.executable, "-m", module)
        # One place for each child; None where one must be started first. The latest used is taken first: its caches are warm.
        self._free: asyncio.LifoQueue[_Child | None] = asyncio.LifoQueue()
        for _ in range(children):
            self._free.put_nowait(None)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._children: set[_Child] = set()
        self._running = True

    @property
    def pids(self) -> list[int]:
        """The process ids of the children there are."""
        return [child.process.pid for child in self._children]

    async def stop(self) -> None:
        """End all children; calls under way and later ones raise ChildUnavailable."""
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(child.kill() for child in list(self._children)))
        self._children.clear()

    async def ask(self, request: Any, *, timeout_s: float) -> Any:
        """What a child answers to `request` (any value that can be pickled).

        Raises ChildUnavailable where no whole answer comes within `timeout_s`, the wait for a free child included, or where it fails.
        """
        if not self._running:
            raise ChildUnavailable(f"the processes for {self._what} have been stopped")
        begun = asyncio.Event()
        exchange = self._task(self._exchange(packed(request), begun))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(exchange)
        except TimeoutError:
            raise ChildUnavailable(f"the process for {self._what} did not answer within {timeout_s:.3g} s") from None
        except asyncio.CancelledError:
            if exchange.cancelled():
                raise ChildUnavailable(f"the processes for {self._what} have been stopped") from None
            raise
        finally:
            # A child that has been asked is listened to until it answers, whoever still wants to know.
            if not begun.is_set():
                exchange.cancel()

    def _task(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Looked at, so that a call whose caller has gone leaves no warning.

    async def _begin(self) -> _Child:
        child = await _Child.started(self._command)
        self._children.add(child)
        return child

    async def _exchange(self, request: bytes, begun: asyncio.Event) -> Any:
        child = await self._free.get()
        begun.set()
        try:
            async with asyncio.timeout(HUNG_S):
                if child is None or not child.alive:
                    await self._drop(child)
                    child = await self._begin()
                answer = await child.ask(request)
        except (TimeoutError, OSError, EOFError, ValueError, ChildUnavailable) as exc:
            self._task(self._replace(child))
            raise ChildUnavailable(f"the process for {self._what} died or hung ({type(exc).__name__})") from exc
        self._free.put_nowait(child)
        if not isinstance(answer, dict) or "answer" not in answer:
            kind = answer.get("error") if isinstance(answer, dict) else type(answer).__name__
            raise ChildUnavailable(f"the process for {self._what} failed ({kind})")
        return answer["answer"]

    async def _replace(self, child: _Child | None) -> None:
        """Another child in place of `child`; where none can be started now, the next call tries again."""
        new: _Child | None = None
        try:
            await self._drop(child)
            new = await self._begin()
        finally:
            self._free.put_nowait(new)

    async def _drop(self, child: _Child | None) -> None:
        if child is not None:
            await child.kill()
            self._children.discard(child)
