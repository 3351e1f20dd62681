"""The rate limits' counters: one windowed Faust table for each renewal period, and the only code that touches them.

A value is `[count, last_offset]` (core/limits.py says why). Keys are text and values JSON, since Faust can't recover other ones. Time is
the request's own, the broker's first append, so that a forwarded request counts where it belongs. Restored windows never expire by
themselves in Faust, so windows that are over are removed here, with tombstones, a few with each request.

Must be called from the admit agent's own loop: Faust takes the changelog partition from the event that is being processed.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import faust

from pipeline.core.limits import PERIOD_S, Counter, CounterId, endpoint_of
from pipeline.kafka.partitions import partition_of
from pipeline.topics import COUNTED_PARTITIONS, HOUR_MS, WORKER_GROUP, Topic

# A window is kept this long after its end, for requests that are delivered again.
GRACE_S = 180
PRUNED_PER_REQUEST = 8
NOTHING = Counter()


def changelog_topics() -> list[Topic]:
    """The tables' changelogs, for the admin to create: compacted, and deleted when no window in them can matter any more."""
    return [
        Topic(
            f"{WORKER_GROUP}-limits-{period}-changelog", "counter and window", COUNTED_PARTITIONS, size_s * 1000 + HOUR_MS,
            extra_config={"min.cleanable.dirty.ratio": "0.2"}, compacted=True,
        )
        for period, size_s in PERIOD_S.items()
    ]  # fmt: skip


class LimitWindows:
    """Reads and writes counters in the window of the request that is being judged."""

    def __init__(self, app: faust.App) -> None:
        self._time_s = 0.0
        self._tables: dict[str, Any] = {}
        # Windows in the order in which they were opened, for each period and partition: the oldest are removed first.
        self._open: dict[tuple[str, int], deque[tuple[float, Any]]] = {}
        for period, size_s in PERIOD_S.items():
            table = app.Table(f"limits-{period}", partitions=COUNTED_PARTITIONS, key_type=str)
            table.on_recover(self._index_recovered)
            self._tables[period] = table.tumbling(size_s).relative_to(self._time)

    def _time(self, event: Any = None) -> float:
        return self._time_s

    def at(self, time_ms: int) -> None:
        """Set the time of the request that `read` and `write` are about."""
        self._time_s = time_ms / 1000

    def read(self, counter_id: CounterId) -> Counter:
        """The counter's value in the window of the present request."""
        table = self._tables[counter_id.period].table
        value = table.data.data.get((counter_id.subject, table.window.current(self._time_s)))
        return Counter(*value) if value else NOTHING

    def write(self, counter_id: CounterId, counter: Counter, partition: int) -> None:
        """Set the counter; `partition` is that of the request being processed."""
        wrapper = self._tables[counter_id.period]
        if counter.count == 1:
            window = wrapper.table.window.current(self._time_s)
            self._open.setdefault((counter_id.period, partition), deque()).append((window[1], (counter_id.subject, window)))
        wrapper[counter_id.subject] = [counter.count, counter.last_offset]

    def prune(self, partition: int) -> None:
        """Remove a few windows of this partition that ended more than GRACE_S before the present request."""
        for period, wrapper in self._tables.items():
            opened = self._open.get((period, partition))
            for _ in range(PRUNED_PER_REQUEST):
                if not opened or opened[0][0] + GRACE_S > self._time_s:
                    break
                key = opened.popleft()[1]
                if key in wrapper.table.data.data:
                    del wrapper.table[key]

    async def _index_recovered(self) -> None:
        """After a recovery: index what was restored, so that it is pruned like the rest."""
        self._open.clear()
        for period, wrapper in self._tables.items():
            for key in sorted(wrapper.table.data.data, key=lambda k: k[1][1]):
                place = period, partition_of(endpoint_of(key[0]), COUNTED_PARTITIONS)
                self._open.setdefault(place, deque()).append((key[1][1], key))
