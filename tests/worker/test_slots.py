"""Slots bound the calls of one endpoint, and one endpoint's calls leave the others' slots alone."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pipeline.errors import DeadlineExceeded, Unavailable
from pipeline.worker.slots import Slots


async def test_a_full_endpoint_leaves_room_for_the_others():
    slots = Slots(per_endpoint=1, queued=0)
    async with slots.take("slow", 1), slots.take("quick", 1):
        pass


async def test_one_more_than_slots_and_queue_is_refused_at_once():
    slots = Slots(per_endpoint=1, queued=1)
    async with slots.take("e", 1):
        waiting = asyncio.create_task(_hold(slots, "e"))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            async with slots.take("e", 1):
                pass
        assert refused.value.retry_after_s == 1
    assert await waiting


async def test_a_deadline_that_passes_in_the_queue_is_said():
    slots = Slots(per_endpoint=1, queued=1)
    async with slots.take("e", 1):
        with pytest.raises(DeadlineExceeded):
            async with slots.take("e", 0.01):
                pass


async def test_nothing_is_left_of_an_endpoint_that_nobody_uses():
    slots = Slots(per_endpoint=2, queued=1)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(slots.take("e", 1))
        with pytest.raises(DeadlineExceeded):
            async with slots.take("e", 0.01):
                pass
    assert (slots._slots, slots._waiting, slots._users) == ({}, {}, {})


async def _hold(slots: Slots, endpoint: str) -> bool:
    async with slots.take(endpoint, 5):
        return True
