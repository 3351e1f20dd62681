"""Erases one user in every table: texts removed, the name replaced by a pseudonym, nothing counted differently (`sluice forget`).

Which tables is found by looking at their columns, so new ones are covered. First it is noted that the user is erased (erased_users.py),
from when on what comes again from Kafka lands erased (landing.py); then table after table is changed, each in one commit that does not
name the user; a rerun changes what is left. The job finishes what a crash has cut off by finding the names whose hash it has. Old files
hold the text until they are removed, a day later (`sweep`). Fails with ErasureUnfinished, which names the tables.
"""

from __future__ import annotations

import html
import json
import logging
import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.delta import DeltaFolder, reason, tables_in
from jobs.erased_users import ErasedUsers, Erasure
from jobs.erasing import User, erasing, has_bytes, names_users, signs, without_creator
from jobs.landed import KIND_ENDPOINT
from jobs.landing import NAME as LANDING
from jobs.name_lock import erasing_names
from jobs.rollup import HourlyUsage, frozen_before_ms, recount
from pipeline.errors import SluiceError
from pipeline.settings import Settings
from pipeline.topics import DAY_MS, HOUR_MS

log = logging.getLogger(__name__)

Name = tuple[str, str, str]
USAGE: Name = ("system", "serving", "endpoint_usage")
# How long an erasure waits for a command that copies names.
WAIT_S = 30.0
# Longer than tables keep files that no version needs (targets.PROPERTIES).
FILES_STAY_MS = DAY_MS + 60_000
USER_COLUMNS = "name string, pseudonym string, until_ms long, signs array<binary>, asked array<string>"


class ErasureUnfinished(SluiceError):
    """Some tables still name the user."""


@dataclass
class Forgotten:
    """What became of one user. `tables`: rows changed in each table that named the user; `looked_at`: how many tables might have."""

    pseudonym: str
    files_gone_ms: int
    looked_at: int = 0
    tables: dict[str, int] = field(default_factory=dict)
    page_removed: bool = False


class Eraser:
    """Erases in the thread that writes the tables; `ask` is for all others.

    `in_batch` is held while a batch lands, `rewriting` while files are joined or rows deleted; `changed` is called when rows that have
    landed were changed.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        users: ErasedUsers,
        in_batch: AbstractContextManager[Any],
        rewriting: AbstractContextManager[Any],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._spark, self._warehouse, self._page = spark, settings.warehouse_dir, settings.dashboard_file
        self._users, self._in_batch, self._rewriting, self._changed = users, in_batch, rewriting, changed
        self._asked: queue.SimpleQueue[tuple[str, Future[Forgotten]]] = queue.SimpleQueue()

    def ask(self, name: str) -> Forgotten:
        """Have it erased, and wait until it is. Raises what `forget` raises."""
        asked: Future[Forgotten] = Future()
        self._asked.put((name, asked))
        return asked.result()

    def do_asked(self) -> None:
        """Erase whom somebody has asked to; whoever asked gets the outcome, and nothing is raised here."""
        while not self._asked.empty():
            name, asked = self._asked.get()
            try:
                asked.set_result(self.forget(name))
            except Exception as exc:
                # Without its words, which may hold the name.
                log.error("an erasure is not finished: %s", type(exc).__name__)
                asked.set_exception(exc)

    def forget(self, name: str) -> Forgotten:
        """Erase what this user asked up to now. Raises InvalidParameter, Busy, ErasureUnfinished."""
        with erasing_names(self._warehouse, WAIT_S):
            # A batch that lands meanwhile either is over by then, and its rows are changed below, or sees who is erased.
            with self._in_batch:
                erasure = self._users.begin(name, _now_ms())
            with self._rewriting:
                return self._everywhere(name, erasure)

    @property
    def unfinished(self) -> list[Erasure]:
        """The erasures that were cut off."""
        return [erasure for erasure in self._users.all if erasure.done_ms is None]

    def finish(self) -> None:
        """Go on with these. Raises as `forget`."""
        with erasing_names(self._warehouse, WAIT_S):
            for name, erasure in self._users.among(self._names()).items():
                if erasure in self.unfinished:
                    self._everywhere(name, erasure)
            # The others are in no table any more, but may have been cut off before the hours were counted.
            for erasure in self.unfinished:
                self._recount(erasure)
                self._users.done(erasure, _now_ms())

    @property
    def unswept(self) -> list[Erasure]:
        """The erasures whose old files are to be removed now."""
        return [e for e in self._users.all if e.done_ms and not e.files_gone_ms and _now_ms() > e.done_ms + FILES_STAY_MS]

    def sweep(self) -> None:
        """Remove these files."""
        due = self.unswept
        for table in self._tables().values():
            table.vacuum()
        for erasure in due:
            self._users.files_gone(erasure, _now_ms())

    def _everywhere(self, name: str, erasure: Erasure) -> Forgotten:
        tables = self._tables()
        asked = _asked_for(tables.values(), name)
        done = Forgotten(erasure.pseudonym, 0, len(tables))
        wrong: dict[str, str] = {}
        for one, table in tables.items():
            try:
                changed = _erase_in(table, name, erasure, asked)
                if one == LANDING:
                    changed += self._erase_creator(table)
                if changed:
                    done.tables[".".join(one)] = changed
            except Exception as exc:
                wrong[".".join(one)] = reason(exc).replace(name, "...")
        self._changed()
        self._recount(erasure)
        done.page_removed = self._remove_page(name)
        if wrong:
            told = "; ".join(f"{one}: {why}" for one, why in wrong.items())
            raise ErasureUnfinished(f"these tables may still name the user: {told}. Mend what is wrong and run `sluice forget` again")
        self._users.done(erasure, _now_ms())
        # The job looks every hour.
        done.files_gone_ms = _now_ms() + FILES_STAY_MS + HOUR_MS
        return done

    def _tables(self) -> dict[Name, DeltaFolder]:
        """All tables that may name a user.

        Dead letters first: their bytes don't say whose they are, should this be cut off and the name be known by its hash alone. Last those
        that say for whom a request was made: findings are known by them.
        """
        folders = {name: DeltaFolder(self._spark, self._warehouse.joinpath(*name)) for name in tables_in(self._warehouse)}
        schemas = {name: table.read().schema for name, table in folders.items() if table.exists()}
        found = [name for name, schema in schemas.items() if names_users(schema)]
        order = sorted(found, key=lambda name: (not has_bytes(schemas[name]), "usage_context" in schemas[name].fieldNames()))
        return {name: folders[name] for name in order}

    def _names(self) -> set[str]:
        """All names in all tables."""
        found: set[str] = set()
        for table in self._tables().values():
            rows = table.read()
            names = [F.col(person) for person in ("requester", "created_by") if person in rows.columns]
            columns = [F.array(*names)] if names else []
            if "usage_context" in rows.columns:
                columns.append(F.map_values("usage_context"))
            if columns:
                found |= {row[0] for row in rows.select(F.explode(F.concat(*columns))).distinct().collect() if row[0]}
        return found

    def _erase_creator(self, landing: DeltaFolder) -> int:
        """In the endpoints' configurations that have landed."""
        rows = landing.read().where((F.col("kind") == KIND_ENDPOINT) & F.col("value").isNotNull())
        configured = rows.select("topic", "partition", "offset", "value").distinct().collect()
        new = [(*row[:3], value) for row in configured if (value := without_creator(bytes(row.value), self._users))]
        if new:
            source = self._spark.createDataFrame(new, "topic string, partition int, offset long, value binary")
            same = " AND ".join(f"t.{name} = s.{name}" for name in ("topic", "partition", "offset"))
            landing.merging(source, same).whenMatchedUpdate(set={"value": "s.value"}).execute()
        return len(new)

    def _recount(self, erasure: Erasure) -> None:
        """An hour in which the user asked before and after an erasure, or between two, has the pseudonym's row to be counted anew."""
        usage, hours = (DeltaFolder(self._spark, self._warehouse.joinpath(*name)) for name in (USAGE, HourlyUsage.name))
        if not (usage.exists() and hours.exists()):
            return
        theirs = hours.read().where(F.col("requester") == erasure.pseudonym)
        tags = F.array_sort(F.map_entries("tags")).alias("tags")
        rows_of_key = theirs.groupBy("hour", "endpoint_name", "served_entity_name", tags).count()
        counted = rows_of_key.groupBy("hour").agg(F.max("count").alias("rows"))
        rows = {row.s // 3600: row.rows for row in counted.select(F.unix_seconds("hour").alias("s"), "rows").collect()}
        touched = {hour for hour, most in rows.items() if most > 1 or hour == erasure.until_ms // HOUR_MS}
        frozen_ms = frozen_before_ms(usage, hours)
        recount(usage, hours, {hour for hour in touched if hour * HOUR_MS >= frozen_ms})

    def _remove_page(self, name: str) -> bool:
        """The dashboard's page, where it names the user: the next `sluice dashboard` makes it anew."""
        text = self._page.read_text(encoding="utf-8") if self._page.exists() else ""
        if not any(form in text for form in (name, html.escape(name), json.dumps(name)[1:-1])):
            return False
        self._page.unlink()
        return True


def _asked_for(tables: Iterable[DeltaFolder], name: str) -> list[str]:
    """The ids of the requests that others made for this user."""
    found: set[str] = set()
    for table in tables:
        rows = table.read()
        if {"request_id", "requester", "usage_context"} <= set(rows.columns):
            theirs = rows.where((F.col("requester") != name) & F.array_contains(F.map_values("usage_context"), name))
            found |= {row[0] for row in theirs.select("request_id").distinct().collect()}
    return sorted(found)


def _erase_in(table: DeltaFolder, name: str, erasure: Erasure, asked: list[str]) -> int:
    """Change the user's rows of one table; how many they were."""
    rows = table.read()
    # Looked for by the name itself, which a commit must not: its condition stays in the table's history.
    found = rows.where(erasing(rows.schema, User.literal(name, erasure, asked))[0]).count()
    if found:
        user = User(F.col("s.name"), F.col("s.pseudonym"), F.col("s.until_ms"), F.col("s.signs"), F.col("s.asked"))
        is_theirs, changes = erasing(rows.schema, user, "t.")
        source = _as_row(table.spark, name, erasure, asked)
        table.merging(source, is_theirs).whenMatchedUpdate(set=changes).execute()
    return found


def _as_row(spark: SparkSession, name: str, erasure: Erasure, asked: list[str]) -> DataFrame:
    row = (name, erasure.pseudonym, erasure.until_ms, [bytearray(sign) for sign in signs(name)], asked)
    return spark.createDataFrame([row], USER_COLUMNS)


def _now_ms() -> int:
    return int(time.time() * 1000)
