"""After a rebalance, requests are fetched again only when nothing of them can be dropped any more.

Faust 0.15.3 drops records that it has fetched, and takes them for read: they do not come again before the next rebalance, and what stands
behind them is worked on without them.

- It resumes the source partitions while the flow is on for the changelogs, then goes back to the committed offsets, then empties the
  agents' queues. Here a source partition is resumed with the flow, which is Faust's last step; until then, and in a rebalance, none is
  active, whatever Faust or a queue that empties says.
- It asks aiokafka for the records of the active partitions. Where they are paused meanwhile the set is empty, which aiokafka takes for
  "all partitions". Here nothing active means nothing.

Changelogs are resumed as Faust wants it. Fails with Faust's own exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from faust.transport.consumer import ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP


class _Active:
    """The active partitions as they are at the moment of asking; never false, even where there are none."""

    def __init__(self, partitions: set[TP]) -> None:
        self._partitions = partitions

    def __contains__(self, tp: object) -> bool:
        return tp in self._partitions


class ReleasesSources(driver.Consumer):
    """`_released` are the source partitions that may be fetched, `_waiting` those that Faust has resumed and that wait for the flow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._released: set[TP] = set()
        self._waiting: set[TP] = set()
        super().__init__(*args, **kwargs)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Changelogs at once, sources with the flow."""
        changelogs = {tp for tp in ensure_TPset(tps) if self._is_changelog_tp(tp)}
        self._waiting |= ensure_TPset(tps) - changelogs
        super().resume_partitions(changelogs)

    def resume_flow(self) -> None:
        """Everything is where it belongs: fetch what waits for it."""
        self._released |= self._waiting
        super().resume_partitions(self._waiting)
        self._waiting = set()
        super().resume_flow()

    def on_buffer_drop(self, tp: TP) -> None:
        """A queue of the time before a rebalance may empty in the middle of it."""
        if tp in self._released:
            super().on_buffer_drop(tp)
        else:
            self._buffered_partitions.discard(tp)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        return await super()._getmany(None if active_partitions is None else _Active(active_partitions), timeout)

    def _set_active_tps(self, tps: set[TP]) -> set[TP]:
        active: set[TP] = super()._set_active_tps(tps)
        active -= {tp for tp in active if tp not in self._released and not self._is_changelog_tp(tp)}
        return active

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """All are given up in a rebalance, to come back one by one."""
        self._released.clear()
        self._waiting.clear()
        self._buffered_partitions.clear()
        await super().on_partitions_revoked(revoked)
