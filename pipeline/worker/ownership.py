"""Which partitions this worker owns now, so that nothing is written for a request that has become another worker's.

In a rebalance all partitions are given up and handed out again, mostly to the same workers. Calls under way go on meanwhile, but
`settled` holds their output back until the new assignment is known; then it tells whether the partition is still ours.
Used from the event loop only.
"""

from __future__ import annotations

import asyncio


class Ownership:
    """`owned` is empty, and nothing is settled, until the first assignment."""

    def __init__(self) -> None:
        self.owned: frozenset[int] = frozenset()
        self._rebalances = 0
        self._settled = asyncio.Event()

    def revoked(self) -> None:
        """A rebalance has begun."""
        self._rebalances += 1
        self._settled.clear()

    def era(self) -> int:
        """Grows with each rebalance: what was read of a partition in one era may not be written in another."""
        return self._rebalances

    def still(self, era: int) -> bool:
        """Whether no rebalance has begun since `era` was asked for."""
        return self._settled.is_set() and era == self._rebalances

    def assigned(self, partitions: frozenset[int]) -> frozenset[int]:
        """A rebalance has ended; returns the partitions that were lost by it."""
        lost = self.owned - partitions
        self.owned = partitions
        self._settled.set()
        return lost

    async def settled(self, partition: int) -> bool:
        """Wait for the end of a rebalance, if there is one, and say whether `partition` is ours."""
        if not self._settled.is_set():
            await self._settled.wait()
        return partition in self.owned
