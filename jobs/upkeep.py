"""Keeps the tables fit, between batches and in the same driver: joins small files, removes old ones, empties the landing table.

The rule is a count of commits and a clock, nothing cleverer. A failure here is logged and tried again later; no row depends on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from delta.tables import DeltaTable
from pyspark.sql import functions as F

from jobs.delta import DeltaFolder, reason
from jobs.fanout import Fanout
from jobs.landing import KIND_ENDPOINT
from pipeline.topics import DAY_MS, HOUR_MS

log = logging.getLogger(__name__)

# Each commit adds a file or two. Compaction waits for a quiet moment, but not for ever.
COMMITS_WHEN_IDLE, COMMITS_AT_MOST = 60, 400
# Twice the day within which a repeated request must be known.
LANDING_KEEP_MS = 2 * DAY_MS
VACUUM_EVERY_S = {True: 3_600.0, False: 24 * 3_600.0}


class Upkeep:
    """Remembers when what was last done; used by the thread that spreads."""

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._landing = fanout.landing.table
        self._landing_version = self._landing.version()
        self._emptied_s = time.monotonic()
        self._vacuumed_s: dict[str, float] = {}

    def run(self, *, idle: bool) -> None:
        """Do the most urgent thing, if there is one."""
        at_most = COMMITS_WHEN_IDLE if idle else COMMITS_AT_MOST
        for name, commits in self._fanout.commits.items():
            work = self._fanout.work.get(name)
            if commits >= at_most and not (work and (idle or work.error)):
                self._fanout.commits[name] = 0
                return self._tidy(self._fanout.targets[name].table)
        if self._landing.version() - self._landing_version >= at_most:
            self._tidy(self._landing)
            self._landing_version = self._landing.version()
        elif idle and time.monotonic() - self._emptied_s > HOUR_MS / 1000:
            self._emptied_s = time.monotonic()
            self._attempt("empty", self._landing, self.empty_landing)
        return None

    def empty_landing(self) -> None:
        """Delete what landed two days ago and is in every table; the newest word on each endpoint stays."""
        old = F.col("appended_ms") < int(time.time() * 1000) - LANDING_KEEP_MS
        everywhere = F.col("landing_seq") <= self._fanout.floor()
        DeltaTable.forPath(self._landing.spark, str(self._landing.path)).delete(old & everywhere & (F.col("kind") != KIND_ENDPOINT))

    def _tidy(self, table: DeltaFolder) -> None:
        self._attempt("compact", table, table.optimize)
        due_s = self._vacuumed_s.setdefault(str(table.path), time.monotonic()) + VACUUM_EVERY_S[table is self._landing]
        if time.monotonic() > due_s:
            self._vacuumed_s[str(table.path)] = time.monotonic()
            self._attempt("vacuum", table, table.vacuum)

    def _attempt(self, what: str, table: DeltaFolder, act: Callable[[], None]) -> None:
        started_s = time.monotonic()
        try:
            act()
            log.info("%s of %s took %.1f s", what, table.path, time.monotonic() - started_s)
        except Exception as exc:
            log.warning("%s of %s failed, to be tried again: %s", what, table.path, reason(exc))
