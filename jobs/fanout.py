"""Spreads the landing table over all other tables, side by side, each at its own pace.

Where many wait, busy tables come first and quiet ones later (turns.py), a few at a time, so that what lands meanwhile counts too.
Every target remembers in its own log the landed batch it has reached. One that can't be written lags, is told of in clear
words, and is tried again with growing pauses, while the others go on; it then catches up from the landing table, which keeps its rows
until then. All state is in the tables: after a crash `recover` finds what is missing by asking them.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.delta import DeltaFolder, reason
from jobs.entities import Change, ServedEntities, changes
from jobs.landed import KIND_DEAD_LETTER, KIND_ENDPOINT, KIND_RECORD, Landed, Span, TableName
from jobs.landing import Landing, app_id_of
from jobs.progress import Progress
from jobs.rollup import HourlyUsage
from jobs.schemas import LANDING
from jobs.targets import Name, Shape, Target, assessment_shape, dead_letters_shape, request_response_shape, usage_shape
from jobs.turns import Work, next_turns
from pipeline.topics import HOUR_MS

log = logging.getLogger(__name__)

THREADS = 4
# So many tables are written before it is looked again what has landed and whose turn it is: two or three seconds on two cores.
AT_ONCE = 2 * THREADS
# The open hour is counted anew each time, all of its rows: at least so far apart, and so seldom that it takes a tenth of the time at most.
ROLLUP_EVERY_S, ROLLUP_APART = 10.0, 9
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
# How long a batch's files are known by name; well below the hour after which upkeep may remove them.
REMEMBERED_S = 600.0


class AnyTarget(Protocol):
    """What the spreading needs of a table."""

    name: Name
    table: DeltaFolder
    progress: Progress

    @property
    def label(self) -> str: ...

    def ensure(self) -> None: ...

    def write(self, landing: DataFrame, after: int, high: int, span: Span | None) -> None: ...


class Fanout:
    """All targets and what each has still to write. Used by one thread; the writes themselves run side by side.

    `rollups`: how often usage_hourly has been written.
    """

    def __init__(self, spark: SparkSession, warehouse: Path, landing: Landing) -> None:
        self._spark, self._warehouse, self.landing = spark, warehouse, landing
        self._app_id, self._since_ms = app_id_of(landing.table), landing.table.created_ms()
        self.high = -1
        self.targets: dict[Name, AnyTarget] = {}
        self.work: dict[Name, Work] = {}
        self.commits: dict[Name, int] = {}
        # Whether the last run left tables out that were due.
        self.hurries = False
        self.rollups = 0
        self._rolled_up_s = self._rollup_took_s = 0.0
        # The files of every batch that has landed after this one, and since when they are known.
        self._files_after = landing.table.version()
        self._files: dict[int, tuple[float, list[str]]] = {}
        self._usage = self._target(("system", "serving", "endpoint_usage"), usage_shape())
        self._hourly = HourlyUsage(spark, self._usage, self._app_id)
        self._letters = self._target(("system", "serving", "dead_letters"), dead_letters_shape())
        self._entities = ServedEntities(spark, warehouse, self._app_id)
        for target in (self._usage, self._hourly, self._letters, self._entities):
            self._want(target, None)
        # Up to which batch the hours of the rows in endpoint_usage are known: they are counted or wanted.
        self._hours_known = self._usage.progress.reached

    def add(self, landed: Landed) -> None:
        """Take note of a batch that has landed."""
        self.high, before = max(self.high, landed.seq), landed.seq - 1
        self._files[landed.seq] = (time.monotonic(), landed.files)
        for table, span in landed.tables.items():
            self._want(self._of_endpoint(table, "request_response"), span, before, landed.seq)
        for table, span in landed.assessed.items():
            self._want(self._of_endpoint(table, "assessment"), span, before, landed.seq)
        if landed.usage:
            self._want(self._usage, landed.usage, before)
        if landed.dead_letters:
            self._want(self._letters, Span(0, 0), before)
        if landed.endpoints:
            self._make_tables(changes(self.landing.table.read(), before, landed.seq))
            self._want(self._entities, None, before)

    def forget_files(self) -> None:
        """What has landed so far was changed since: the table says where it is now."""
        self._files_after = self.landing.table.version()
        self._files.clear()

    def recover(self) -> None:
        """Find what landed before this process and has not reached its table."""
        if self.landing.table.version() == 0:
            return
        self.high = self.landing.newest_seq()
        rows = self.landing.table.read()
        newest = {change.name: change for change in changes(rows, -1, self.high)}
        self._make_tables(newest.values())
        is_record, assessed = F.col("kind") == KIND_RECORD, F.size("assessments") > 0
        table = F.col("inference_table")
        found = rows.where(is_record & table.isNotNull()).groupBy(table.alias("t"), assessed.alias("assessed")).agg(
            F.max("landing_seq").alias("seq"), F.min("timestamp_ms").alias("low"), F.max("timestamp_ms").alias("high")
        ).collect()  # fmt: skip
        for row in found:
            for kind in ("request_response", "assessment") if row.assessed else ("request_response",):
                # Each table's log is asked when its turn comes: of hundreds of tables that takes a while, and most lack nothing.
                self._want(self._of_endpoint((row.t[0], row.t[1], row.t[2]), kind), Span(row.low, row.high), newest=row.seq)
        self._recover_usage(rows.where(is_record & F.col("usage_tracking")))
        for kind, target in ((KIND_DEAD_LETTER, self._letters), (KIND_ENDPOINT, self._entities)):
            seq = rows.where(F.col("kind") == kind).agg(F.max("landing_seq")).collect()[0][0]
            self._if_behind(target, -1 if seq is None else seq, Span(0, 0))

    def run(self, *, idle: bool) -> bool:
        """Write those that are most urgent of what is due, side by side; whether anything was written. `idle`: no batch is waiting."""
        now = time.monotonic()
        ready = [(name, work) for name, work in self.work.items() if work.due_s <= now]
        due = [(name, work) for name, work in ready if name != self._hourly.name or self._rollup_due(work, now, idle)]
        turns = next_turns(due, now, AT_ONCE)
        self.hurries = len(turns) < len(due)
        if not turns:
            return False
        landing, high, counted = self._landed(turns), self.high, self._hours_known
        with ThreadPoolExecutor(THREADS, thread_name_prefix="table") as pool:
            # The rollup is only as new as the rows whose hours it has been told of.
            results = list(
                pool.map(lambda name: self._write(self.targets[name], landing, counted if name == self._hourly.name else high), turns)
            )
        # endpoint_usage last: it wants hours to be counted again, and a count that is done would take that with it.
        for name, error in sorted(zip(turns, results, strict=True), key=lambda each: each[0] == self._usage.name):
            self._settle(self.targets[name], error)
        return True

    def floor(self) -> int:
        """The newest batch that every target is known to have taken over."""
        return min([self.high, *(max(self.targets[name].progress.known, work.after) for name, work in self.work.items())])

    def _write(self, target: AnyTarget, landing: DataFrame, high: int) -> BaseException | None:
        begun_s = time.monotonic()
        try:
            work = self.work[target.name]
            # After a start it is only known what a table may lack.
            if work.newest < 0 or target.progress.reached < work.newest:
                target.write(landing, work.after, high, work.span)
            return None
        except Exception as exc:
            return exc
        finally:
            if target is self._hourly:
                self._rolled_up_s = time.monotonic()
                self._rollup_took_s = self._rolled_up_s - begun_s

    def _landed(self, due: list[Name]) -> DataFrame:
        """All landed rows that these targets want, and perhaps more.

        From the files of the newest batches alone where they are known: Delta's search for them takes longer than reading them.
        """
        for seq, (since_s, _) in list(self._files.items()):
            if time.monotonic() - since_s > REMEMBERED_S:
                self._files_after = max(self._files_after, seq)
                del self._files[seq]
        readers = [self.work[name] for name in due if name != self._hourly.name]
        after = min((work.after for work in readers if work.span or work is self.work.get(self._entities.name)), default=-1)
        paths = [path for seq, (_, files) in self._files.items() if seq > after for path in files]
        if after < self._files_after or not paths:
            return self.landing.table.read()
        return self._spark.read.schema(LANDING).parquet(*paths)

    def _settle(self, target: AnyTarget, error: BaseException | None) -> None:
        work = self.work[target.name]
        if error is None:
            if work.error:
                log.info("table %s is written again and has caught up", target.label)
            del self.work[target.name]
            self.commits[target.name] = self.commits.get(target.name, 0) + (work.span is not None)
            self.rollups += target is self._hourly and work.span is not None
            if target is self._usage:
                self._hours_known = self._usage.progress.reached
                if work.span:
                    self._want(self._hourly, work.span)
            return
        told, work.error = work.error, reason(error)
        work.tries += 1
        work.since_s = work.since_s or time.time()
        work.due_s = time.monotonic() + min(FIRST_PAUSE_S * 2 ** (work.tries - 1), LONGEST_PAUSE_S)
        if _apart_from_numbers(told) != _apart_from_numbers(work.error):
            log.error(
                "table %s in %s can't be written: %s. Its rows wait in the landing table and follow by themselves; "
                "check that the folder and those above it can be written, and that no file stands in their place",
                target.label, target.table.path, work.error,
            )  # fmt: skip

    def _recover_usage(self, rows: DataFrame) -> None:
        hour = F.floor(F.col("timestamp_ms") / HOUR_MS).cast("long")
        low = min(self._usage.progress.reached, self._hourly.progress.reached)
        found = rows.where(F.col("landing_seq") > low).groupBy(hour.alias("hour")).agg(
            F.max("landing_seq").alias("seq"), F.min("timestamp_ms").alias("low"), F.max("timestamp_ms").alias("high")
        ).collect()  # fmt: skip
        for row in found:
            span = Span(row.low, row.high, {row.hour})
            self._if_behind(self._usage, row.seq, span)
            if row.seq > self._hourly.progress.reached:
                self._want(self._hourly, span)

    def _rollup_due(self, work: Work, now: float, idle: bool) -> bool:
        if work.span and self._hours_known < 0:
            return False
        # While rows pour in, the hours are counted every few seconds, whether more wait for endpoint_usage or not; once they rest, at once.
        rested_s = max(ROLLUP_EVERY_S, ROLLUP_APART * self._rollup_took_s)
        return now - self._rolled_up_s > rested_s or (idle and self._usage.name not in self.work)

    def _if_behind(self, target: AnyTarget, seq: int, span: Span) -> None:
        if seq > target.progress.reached:
            self._want(target, span)

    def _want(self, target: AnyTarget, span: Span | None, after: int = -1, newest: int = -1) -> None:
        self.targets[target.name] = target
        work = self.work.setdefault(target.name, Work(after, time.monotonic()))
        work.newest = max(work.newest, newest)
        if span is not None:
            work.add(span)

    def _target(self, name: Name, shape: Shape) -> Target:
        return Target(self._spark, self._warehouse, name, shape, self._app_id, self._since_ms)

    def _of_endpoint(self, table: TableName, kind: str) -> AnyTarget:
        name = (table[0], table[1], f"{table[2]}_{kind}")
        if name not in self.targets:
            shape = request_response_shape(table) if kind == "request_response" else assessment_shape(table)
            self.targets[name] = self._target(name, shape)
        return self.targets[name]

    def _make_tables(self, found: Iterable[Change]) -> None:
        for change in found:
            if change.table:
                for kind in ("request_response", "assessment"):
                    self._want(self._of_endpoint(change.table, kind), None)


def _apart_from_numbers(error: str | None) -> str | None:
    """The same failure meets another file, named by chance, at each try."""
    return error and re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+", "", error)
