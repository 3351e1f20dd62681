"""Keeps the tables fit, between batches and in the same driver: joins small files, removes old ones, empties the landing table, deletes
rows that are older than their table keeps them (retention.py), and finishes erasures (forget.py).

Files of tables that are only added to are joined beside the spreading, in a thread of its own: nothing new waits for that.
The rule is a count of commits and a clock, nothing cleverer. A failure here is logged and tried again later; no row depends on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from pyspark.sql import functions as F

from jobs.delta import DeltaFolder, reason, tables_in
from jobs.fanout import Fanout
from jobs.forget import Eraser
from jobs.landed import KIND_ENDPOINT
from jobs.retention import days_of, keep, rules
from jobs.rollup import HourlyUsage
from jobs.targets import Name, Target
from pipeline.settings import Settings
from pipeline.topics import DAY_MS, HOUR_MS

log = logging.getLogger(__name__)

# Each commit adds a file or two, and a busy table gets 900 an hour, of which a tenth may be left. Compaction waits for a quiet moment, but
# not for ever.
COMMITS_WHEN_IDLE, COMMITS_AT_MOST = 20, 30
# Twice the day within which a repeated request must be known.
LANDING_KEEP_MS = 2 * DAY_MS
VACUUM_EVERY_S = {True: 3_600.0, False: 24 * 3_600.0}
# How long after the last time the landing table is emptied: once nothing is under way, or under steady load too.
EMPTY_WHEN_IDLE_S, EMPTY_AT_LAST_S = 3_600.0, 3 * 3_600.0


class Upkeep:
    """Remembers when what was last done; used by the thread that spreads.

    `rewriting` is held by whoever changes or rewrites rows that are in a table: of two at once the later would fail.
    """

    def __init__(self, fanout: Fanout, settings: Settings, eraser: Eraser, rewriting: AbstractContextManager[Any]) -> None:
        self._fanout, self._warehouse, self._rules, self._eraser = fanout, settings.warehouse_dir, rules(settings.retention), eraser
        self._kept_day, self._to_keep = 0, list[Name]()
        self._erased_s: float | None = None
        self._landing = fanout.landing.table
        self._landing_version = self._landing.version()
        self._emptied_s = time.monotonic()
        self._vacuumed_s: dict[str, float] = {}
        self._rewriting = rewriting
        self._joiner = ThreadPoolExecutor(1, thread_name_prefix="joiner")
        self._joining: Future[None] | None = None

    def run(self, *, idle: bool) -> None:
        """Do the most urgent thing, if there is one."""
        if self._keep_next(idle=idle):
            return
        self._erase()
        if (self._joining is None or self._joining.done()) and self._join_next(COMMITS_WHEN_IDLE if idle else COMMITS_AT_MOST, idle=idle):
            return
        if time.monotonic() - self._emptied_s > (EMPTY_WHEN_IDLE_S if idle else EMPTY_AT_LAST_S):
            self._emptied_s = time.monotonic()
            self._attempt("empty", self._landing, self.empty_landing)

    def settle(self, timeout_s: float | None = None) -> None:
        """Wait until no files are being joined."""
        if self._joining is not None:
            wait([self._joining], timeout_s)

    def _join_next(self, at_most: int, *, idle: bool) -> bool:
        for name, commits in self._fanout.commits.items():
            work, target = self._fanout.work.get(name), self._fanout.targets[name]
            if commits >= at_most and not (work and (idle or work.error)):
                self._fanout.commits[name] = 0
                if isinstance(target, Target):
                    self._joining = self._joiner.submit(self._tidy, target.table)
                else:
                    # Its rows are replaced as the spreading goes on, by this thread.
                    self._tidy(target.table)
                return True
        if self._landing.version() - self._landing_version >= at_most:
            self._landing_version = self._landing.version()
            self._joining = self._joiner.submit(self._tidy, self._landing)
            return True
        return False

    def _keep_next(self, *, idle: bool) -> bool:
        """Once a day (UTC), in a quiet moment or within its first hour, each table that a rule is for; one at a time."""
        now_ms = int(time.time() * 1000)
        if self._rules and now_ms // DAY_MS != self._kept_day and (idle or now_ms % DAY_MS > HOUR_MS):
            self._kept_day = now_ms // DAY_MS
            self._to_keep = [name for name in tables_in(self._warehouse) if days_of(name, self._rules)]
        if not self._to_keep:
            return False
        name = self._to_keep.pop()
        table = DeltaFolder(self._landing.spark, self._warehouse.joinpath(*name))
        self._attempt("retention", table, lambda: self._keep(name, table, now_ms))
        return True

    def _keep(self, name: Name, table: DeltaFolder, now_ms: int) -> None:
        days = days_of(name, self._rules)
        assert days is not None
        keep(table, days, now_ms)
        for target in self._fanout.targets.values():
            if isinstance(target, Target | HourlyUsage):
                target.kept_from_ms = None
        # What was deleted a day ago goes now.
        table.vacuum()

    def _erase(self) -> None:
        """At the start, and every hour: finish the erasures that were cut off, remove the files of those that are a day old."""
        if self._erased_s is not None and time.monotonic() - self._erased_s < HOUR_MS / 1000:
            return
        self._erased_s = time.monotonic()
        if self._eraser.unfinished:
            self._attempt("finishing erasures", self._landing, self._eraser.finish)
        if self._eraser.unswept:
            self._attempt("removing erased files", self._landing, self._eraser.sweep)

    def empty_landing(self) -> None:
        """Delete what landed two days ago and is in every table; the newest word on each endpoint stays."""
        old = F.col("appended_ms") < int(time.time() * 1000) - LANDING_KEEP_MS
        everywhere = F.col("landing_seq") <= self._fanout.floor()
        self._landing.delete(old & everywhere & (F.col("kind") != KIND_ENDPOINT))

    def _tidy(self, table: DeltaFolder) -> None:
        self._attempt("compact", table, table.optimize)
        due_s = self._vacuumed_s.setdefault(str(table.path), time.monotonic()) + VACUUM_EVERY_S[table is self._landing]
        if time.monotonic() > due_s:
            self._vacuumed_s[str(table.path)] = time.monotonic()
            self._attempt("vacuum", table, table.vacuum)

    def _attempt(self, what: str, table: DeltaFolder, act: Callable[[], None]) -> None:
        with self._rewriting:
            started_s = time.monotonic()
            try:
                act()
                log.info("%s of %s took %.1f s", what, table.path, time.monotonic() - started_s)
            except Exception as exc:
                log.warning("%s of %s failed, to be tried again: %s", what, table.path, reason(exc))
