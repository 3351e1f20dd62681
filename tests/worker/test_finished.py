"""The index of finished requests lets a partition's requests run only when what was finished in it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline.settings import Settings
from pipeline.worker.finished import FinishedIndex


class Log:
    """A reader of an empty log, which answers once it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Event] = []

    async def offsets_for_times(self, times: dict[Any, int]) -> dict[Any, None]:
        answer = asyncio.Event()
        self.asked.append(answer)
        await answer.wait()
        return dict.fromkeys(times)

    async def end_offsets(self, places: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, 0)

    def assign(self, places: Any) -> None:
        pass

    _fetcher: Any = type("Fetcher", (), {"_records": {}})


async def test_a_partition_that_comes_back_waits_for_its_own_reading() -> None:
    index, log = FinishedIndex(Settings()), Log()
    index._reader = log
    first = asyncio.create_task(index.load(index.keep_only(frozenset({3}))))
    await _until(lambda: len(log.asked) == 1)
    index.keep_only(frozenset())
    second = asyncio.create_task(index.load(index.keep_only(frozenset({3}))))
    log.asked[0].set()
    await first
    await _until(lambda: len(log.asked) == 2)
    waiting = asyncio.create_task(index.ready(3))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.asked[1].set()
    await asyncio.gather(second, waiting)


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
