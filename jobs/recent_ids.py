"""Which request ids may have landed within the last days, in memory, so that most batches need not look into the landing table.

It never takes a landed id for a new one. Now and then it takes a new one for a landed one; then the table is asked, and knows better.
Bloom filters of a day each, the newest three: four megabytes for every million requests. Of the newest hundred thousand ids, of which
copies come after a crash, the times are known too (30 MB), and nobody need be asked. Pure; never fails.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable

from rbloom import Bloom

from pipeline.topics import DAY_MS

# Every filter is asked about every id of a batch, and one wrong answer sends the batch to the landing table: at one in a thousand, with ten
# million ids landed, every batch would go there.
ITEMS, FALSE_POSITIVES = 500_000, 0.000_001
KEPT_DAYS = 3
TIMES = 100_000


class _Day:
    """The ids of a day, in as many filters as they need. `newest_ms`: the newest time of a request among them."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.newest_ms = -DAY_MS
        self._filters = [Bloom(ITEMS, FALSE_POSITIVES)]
        self._count = 0

    def add(self, request_id: str, timestamp_ms: int) -> None:
        if self._count == ITEMS:
            self._filters.append(Bloom(ITEMS, FALSE_POSITIVES))
            self._count = 0
        self._filters[-1].add(request_id)
        self._count += 1
        self.newest_ms = max(self.newest_ms, timestamp_ms)

    def __contains__(self, request_id: str) -> bool:
        return any(request_id in each for each in self._filters)


class RecentIds:
    """`load` what has landed before, `add` what lands."""

    def __init__(self) -> None:
        self._days = [_Day()]
        # The newest time among the requests that are not in here any more.
        self._forgotten_ms = -DAY_MS
        self._times: OrderedDict[str, int] = OrderedDict()

    def load(self, landed: Iterable[tuple[str, int]]) -> None:
        """Take over ids and times (epoch milliseconds)."""
        for request_id, timestamp_ms in landed:
            self._take(request_id, timestamp_ms)

    def add(self, request_id: str, timestamp_ms: int) -> None:
        """A request has landed."""
        if time.monotonic() - self._days[-1].began_s > DAY_MS / 1000:
            self._days.append(_Day())
            while len(self._days) > KEPT_DAYS:
                self._forgotten_ms = max(self._forgotten_ms, self._days.pop(0).newest_ms)
        self._take(request_id, timestamp_ms)

    def may_hold(self, request_id: str, timestamp_ms: int) -> bool:
        """Whether a request of this id may have landed with a time less than a day from `timestamp_ms`."""
        return timestamp_ms < self._forgotten_ms + DAY_MS or any(request_id in day for day in self._days)

    def landed_at(self, request_id: str, timestamp_ms: int) -> int | None:
        """The time of a request of this id that has landed, less than a day from `timestamp_ms`; None where that is not known here."""
        known_ms = self._times.get(request_id)
        return known_ms if known_ms is not None and abs(known_ms - timestamp_ms) < DAY_MS else None

    def _take(self, request_id: str, timestamp_ms: int) -> None:
        self._days[-1].add(request_id, timestamp_ms)
        self._times[request_id] = timestamp_ms
        if len(self._times) > TIMES:
            self._times.popitem(last=False)
