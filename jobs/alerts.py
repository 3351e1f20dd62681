"""`system.serving.alerts`: one row for each breach of a rule, and the webhook that is told of it, from a thread of the table job.

The thread judges the running hour and the one before, whenever hours have been counted anew, a quarter of a minute apart at least;
spreading rows never waits for it. A new alert is written first, and told until the webhook has it: at least once and with the same id,
whatever dies in between, since what is not told yet stands in the table. It is the table's only writer, and its MERGE by id adds no
alert twice. A failure is logged once and tried again; no row of another table depends on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark import InheritableThread
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType, TimestampType

from jobs.alert_breaches import RAISED, RECEIVED, WAITING, Alert, ended, judge, measure
from jobs.alert_figures import figures_of
from jobs.alert_rules import Rules, RulesFile, Webhook
from jobs.alert_webhook import WebhookClient
from jobs.costs import MONEY
from jobs.delta import DeltaFolder, reason
from jobs.rollup import HOUR_S
from jobs.targets import PROPERTIES
from pipeline.settings import Settings
from pipeline.topics import HOUR_MS

log = logging.getLogger(__name__)

NAME = ("system", "serving", "alerts")
ALERTS = StructType(
    [
        StructField("alert_id", StringType(), nullable=False),
        *[StructField(name, StringType()) for name in ("rule", "metric", "grouped_by", "group_value")],
        StructField("hour", TimestampType()),
        StructField("requests", LongType()),
        *[StructField(name, MONEY) for name in ("value", "bound")],
        StructField("state", StringType()),
        *[StructField(name, TimestampType()) for name in ("raised_at", "ended_at")],
        StructField("webhook", StringType()),
        StructField("received_at", TimestampType()),
    ]
)
TIMES = ("hour", "raised_ms", "ended_ms", "received_ms")
EVALUATE_EVERY_S = 15.0
LOOK_EVERY_S = 1.0
# The running hour and the one before; and the next, since the broker's clock, which the hours are by, may be ahead of ours.
HOURS_BACK, HOURS_AHEAD = 1, 1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
STOP_WAIT_S = 8.0
COMMITS_TILL_TIDY = 100


@dataclass
class Tries:
    """How often the webhook was told of an alert in vain, and when it is tried again."""

    count: int = 0
    due_s: float = 0.0


class Alerts:
    """`start` once the table job runs. `counted` says how often usage_hourly has been written by this process."""

    def __init__(self, settings: Settings, spark: SparkSession, rules: RulesFile, counted: Callable[[], int]) -> None:
        self._warehouse, self._spark, self._file, self._counted = settings.warehouse_dir, spark, rules, counted
        self.table = DeltaFolder(spark, self._warehouse.joinpath(*NAME))
        self._webhook = WebhookClient(settings)
        self._stopping = threading.Event()
        self._thread = InheritableThread(target=self._run, name="alerts", daemon=True)
        # Alerts that may still change, as they should stand in the table; and those that do not stand there so yet.
        self._known: dict[str, Alert] | None = None
        self._unsaved: set[str] = set()
        self._tries: dict[str, Tries] = {}
        self._evaluated: tuple[Rules, int] | None = None
        self._due_s, self._rest_s = 0.0, 0.0
        self._commits = 0
        self._error: str | None = None
        self._hook_error: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong at present: with the file of rules, with the table, or with the webhook."""
        return self._file.problem or self._error or (self._hook_error and f"the webhook does not take them: {self._hook_error}")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; waits a little for what is under way."""
        self._stopping.set()
        self._thread.join(STOP_WAIT_S)

    def _run(self) -> None:
        # Its own share of the cores, so that batches get theirs beside it.
        self._spark.sparkContext.setLocalProperty("spark.scheduler.pool", "alerts")
        while not self._stopping.is_set():
            rules = self._file.rules()
            if time.monotonic() >= self._rest_s:
                self._attempt(rules)
            if rules.webhook:
                self._tell(rules.webhook)
            self._stopping.wait(LOOK_EVERY_S)
        # What the webhook has received since the last look is not told again by the next run.
        self._attempt(None)
        self._webhook.close()

    def _attempt(self, rules: Rules | None) -> None:
        """Judge by the rules what is due, and write; None: only write. A failure is told, and followed by a pause."""
        try:
            known = self._load()
            if rules is not None:
                self._evaluate(rules, known)
                self._take(ended(known.values(), now_ms()))
            self._save()
            self._error = None
        except Exception as exc:
            self._rest_s = time.monotonic() + EVALUATE_EVERY_S
            told, self._error = self._error, reason(exc)
            if told != self._error:
                log.error("alerts can't be judged, or written to %s; it is tried again: %s", self.table.path, self._error)

    def _evaluate(self, rules: Rules, known: dict[str, Alert]) -> None:
        present = (rules, self._counted())
        if time.monotonic() < self._due_s or present == self._evaluated:
            return
        self._due_s = time.monotonic() + EVALUATE_EVERY_S
        hour = now_ms() // HOUR_MS
        figures = figures_of(self._spark, self._warehouse, rules.rules, hour - HOURS_BACK, hour + HOURS_AHEAD)
        self._take(judge(measure(rules.rules, figures), known, now_ms(), told=rules.webhook is not None))
        self._evaluated = present

    def _take(self, changed: list[Alert]) -> None:
        assert self._known is not None
        for alert in changed:
            if alert.alert_id not in self._known:
                log.warning("alert: %s", alert.as_json()["text"])
            self._known[alert.alert_id] = alert
            self._unsaved.add(alert.alert_id)

    def _tell(self, webhook: Webhook) -> None:
        """Tell the webhook of each alert that it has not received; those before which were tried least. One failure ends the round."""
        waiting = [a for a in (self._known or {}).values() if a.webhook == WAITING and a.alert_id not in self._unsaved]
        for alert in sorted(waiting, key=lambda a: (self._tries.setdefault(a.alert_id, Tries()).count, a.raised_ms)):
            tries = self._tries[alert.alert_id]
            if tries.due_s > time.monotonic() or self._stopping.is_set():
                continue
            problem = self._webhook.post(webhook, alert.as_json())
            if problem is not None:
                tries.count += 1
                tries.due_s = time.monotonic() + min(FIRST_PAUSE_S * 2 ** min(tries.count - 1, 20), LONGEST_PAUSE_S)
                self._tell_of_problem(problem)
                return
            self._take([replace(alert, webhook=RECEIVED, received_ms=now_ms())])
            del self._tries[alert.alert_id]
            # It is there again, for the others too.
            for other in self._tries.values():
                other.due_s = 0.0
            self._tell_of_problem(None)

    def _tell_of_problem(self, problem: str | None) -> None:
        told, self._hook_error = self._hook_error, problem
        if problem is not None and told != problem:
            log.error(
                "the webhook of %s does not take alerts: %s. They wait in %s, and are sent once it does",
                self._file.path, problem, self.table.path,
            )  # fmt: skip
        elif problem is None and told is not None:
            log.info("the webhook of %s takes alerts again", self._file.path)

    def _load(self) -> dict[str, Alert]:
        """The alerts that may still change: read once, since nobody else writes the table."""
        if self._known is None:
            self.table.create(ALERTS, ("alert_id", "hour"), PROPERTIES)
            first_hour = F.timestamp_seconds(F.lit((now_ms() // HOUR_MS - HOURS_BACK) * HOUR_S))
            rows = self.table.read().where((F.col("state") == RAISED) | (F.col("webhook") == WAITING) | (F.col("hour") >= first_hour))
            self._known = {row.alert_id: Alert(*row) for row in rows.select(*_plain_columns()).collect()}
        return self._known

    def _save(self) -> None:
        assert self._known is not None
        if not self._unsaved:
            return
        changed = [self._known[alert_id] for alert_id in self._unsaved]
        source = self._spark.createDataFrame([_row(alert) for alert in changed], ALERTS)
        since_s = min(alert.hour for alert in changed) * HOUR_S
        (
            self.table.merging(source, f"t.alert_id = s.alert_id AND t.hour >= timestamp_seconds({since_s})")
            .whenMatchedUpdateAll().whenNotMatchedInsertAll()
            .execute()
        )  # fmt: skip
        self._unsaved.clear()
        first_hour = now_ms() // HOUR_MS - HOURS_BACK
        for alert in list(self._known.values()):
            if alert.hour < first_hour and alert.state != RAISED and alert.webhook != WAITING:
                del self._known[alert.alert_id]
        self._commits += 1
        if self._commits % COMMITS_TILL_TIDY == 0:
            self.table.optimize()
            self.table.vacuum()


def now_ms() -> int:
    """The time by which an hour runs or has ended."""
    return int(time.time() * 1000)


def _row(alert: Alert) -> tuple[Any, ...]:
    return tuple(_moment(value * HOUR_MS if name == "hour" else value) if name in TIMES else value for name, value in asdict(alert).items())


def _moment(ms: int | None) -> datetime | None:
    # With its zone: pyspark takes a time without one for local.
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _plain_columns() -> list[Column]:
    """The table's columns as Alert has them: times in milliseconds, the hour counted from the epoch."""
    columns = {"hour": F.floor(F.unix_seconds("hour") / HOUR_S).cast("long")}
    columns |= {name: F.unix_millis(name) for name in ("raised_at", "ended_at", "received_at")}
    return [columns.get(field.name, F.col(field.name)) for field in ALERTS.fields]
