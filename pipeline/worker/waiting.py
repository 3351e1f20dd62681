"""Waiting as Faust does it for each message it hands on, without the four tasks that mode makes for it.

Faust's consumer waits for "the message is put where it belongs, or a rebalance begins". Mostly there is room and nothing to wait for:
then the first coroutine is simply run. Where it has to wait after all, mode's own way takes over from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from functools import partial
from typing import Any

from mode import Service


class WaitsLittle(Service):
    """A mode service whose `wait_first` is quick where its first coroutine does not wait."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:
        """As Service's; None where the first of `coros` was done at once."""
        first, *others = coros
        if not hasattr(first, "send"):
            return await super().wait_first(*coros, timeout=timeout)
        try:
            waits_for = first.send(None)
        except BaseException as exc:
            for other in others:
                other.close()
            if isinstance(exc, StopIteration):
                return None
            raise
        return await super().wait_first(_Begun(first, waits_for), *others, timeout=timeout)

    async def sleep(self, n: Any) -> None:
        """As Service's; a sleep of no time only lets the others run."""
        await (super().sleep(n) if n else asyncio.sleep(0))


class _Begun:
    """The rest of a coroutine that has run up to where it waits for something."""

    def __init__(self, coro: Any, waits_for: Any) -> None:
        self._coro, self._waits_for = coro, waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        while True:
            try:
                step = partial(self._coro.send, (yield waits_for))
            except BaseException as exc:  # a cancellation, as a rule: it is the coroutine's to deal with
                step = partial(self._coro.throw, exc)
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value
