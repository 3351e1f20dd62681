"""Output waits for the end of a rebalance and goes out only where the partition is still ours."""

import asyncio

from pipeline.worker.ownership import Ownership


async def test_nothing_is_settled_before_the_first_assignment():
    ownership = Ownership()
    waiting = asyncio.create_task(ownership.settled(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    ownership.assigned(frozenset({1}))
    assert await waiting


async def test_a_rebalance_holds_output_back_and_tells_what_was_lost():
    ownership = Ownership()
    ownership.assigned(frozenset({1, 2}))
    ownership.revoked()
    kept, lost = asyncio.create_task(ownership.settled(1)), asyncio.create_task(ownership.settled(2))
    await asyncio.sleep(0)
    assert not kept.done()
    assert ownership.assigned(frozenset({1, 3})) == {2}
    assert (await kept, await lost) == (True, False)
