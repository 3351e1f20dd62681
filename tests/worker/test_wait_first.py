"""Faust's wait for a message to be put where it belongs: at once where there is room, as Faust does it where there is none."""

import asyncio

import pytest

from pipeline.worker.waiting import WaitsLittle


@pytest.fixture
async def service():
    async with WaitsLittle() as service:
        yield service


async def test_what_need_not_wait_is_done_without_a_task(service):
    done = []

    async def put():
        done.append(len(asyncio.all_tasks()))

    before = len(asyncio.all_tasks())
    await service.wait_first(put(), asyncio.Event().wait())
    assert done == [before]


async def test_what_waits_goes_on_when_it_may(service):
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
    queue.put_nowait(1)
    waiting = asyncio.create_task(service.wait_first(queue.put(2), asyncio.Event().wait()))
    await asyncio.sleep(0)
    assert queue.get_nowait() == 1
    await waiting
    assert queue.get_nowait() == 2


async def test_a_rebalance_ends_the_wait_and_cancels_what_waited(service):
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
    queue.put_nowait(1)
    suspended = asyncio.Event()
    waiting = asyncio.create_task(service.wait_first(queue.put(2), suspended.wait()))
    await asyncio.sleep(0)
    suspended.set()
    await waiting
    assert queue.get_nowait() == 1
    await asyncio.sleep(0)
    assert queue.empty()


@pytest.mark.parametrize("yields", [0, 1])
async def test_an_error_reaches_the_caller(service, yields):
    async def put():
        for _ in range(yields):
            await asyncio.sleep(0)
        raise RuntimeError("no such channel")

    with pytest.raises(RuntimeError, match="no such channel"):
        await service.wait_first(put(), asyncio.Event().wait())
