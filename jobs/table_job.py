"""The table job: one Structured Streaming query from Kafka into the Delta tables.

The query's batches do one thing, they land (landing.py); this process's main thread spreads what has landed over the tables
(fanout.py) and keeps them fit (upkeep.py). So a record is durable in one commit, and a slow or broken table holds up nothing.
Ends with a TableJobFailed where the broker's data is gone (failOnDataLoss) or the landing table can't be read or written.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from aiokafka.errors import KafkaError
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.alert_rules import RulesFile
from jobs.alerts import Alerts
from jobs.delta import reason
from jobs.erased_users import ErasedUsers
from jobs.fanout import Fanout
from jobs.forget import Eraser, Forgotten
from jobs.landed import Landed
from jobs.landing import NAME as LANDING
from jobs.landing import Landing, judged
from jobs.session import spark_session
from jobs.sql_server import SqlServer
from jobs.status import write_status
from jobs.upkeep import Upkeep
from pipeline.errors import SluiceError
from pipeline.kafka.admin import create_topics
from pipeline.kafka.connection import spark_options
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTERS, ENDPOINTS, RECORDS

log = logging.getLogger(__name__)

# How long an orderly stop waits for the batch under way; what it cuts off is done again at the next start.
STOP_WAIT_S = 15.0
# The same of files that are being joined; nothing is lost with them.
JOIN_WAIT_S = 5.0
STATUS_EVERY_S = 5.0
BROKER_WAIT_S = 60.0
# Before each partition is read, Spark asks for its offsets on the connection where the last, empty fetch still waits for records at
# the broker: half a second for each partition and pass, unless that wait is short.
FETCH_WAIT_MS = 10


class TableJobFailed(SluiceError):
    """The job can't go on; the message says why and what to do."""


class TableJob:
    """One run of the job in a given session; `step` does what is due, and the caller decides when to stop."""

    def __init__(self, settings: Settings, spark: SparkSession) -> None:
        self._settings, self._spark = settings, spark
        self._in_batch = threading.Lock()
        checkpoint = settings.data.resolve() / "checkpoints" / "tables"
        with _landing_usable(settings.warehouse_dir):
            erased_users = ErasedUsers(spark, settings.warehouse_dir, settings.data)
            self.landing = Landing(spark, settings.warehouse_dir, checkpoint, erased_users)
            self.fanout = Fanout(spark, settings.warehouse_dir, self.landing)
            self.fanout.recover()
            rewriting = threading.RLock()
            self.eraser = Eraser(spark, settings, erased_users, self._in_batch, rewriting, self.fanout.forget_files)
            self._upkeep = Upkeep(self.fanout, settings, self.eraser, rewriting)
        self._landed: queue.SimpleQueue[Landed] = queue.SimpleQueue()
        self._last_batch: dict[str, int] | None = None
        self._batch_error: str | None = None
        self._last_error: str | None = None
        self._told_s = 0.0
        self._landed_s = 0.0
        self.query = self._start(checkpoint)
        self.alerts: Alerts | None = None
        if settings.alerts:
            self.alerts = Alerts(settings, spark, RulesFile(settings.alerts), lambda: self.fanout.rollups)
            self.alerts.start()
        # Whoever asks as soon as the job is ready is told of this run, and not of the one before.
        self._tell()

    def step(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for a batch to land, then spread what has. Raises TableJobFailed where the job can't go on."""
        try:
            with _landing_usable(self._settings.warehouse_dir):
                self._spread(timeout_s)
            if not self.query.isActive:
                raise TableJobFailed(f"the table job's query has ended: {self._batch_error or _why(self.query)}")
        except TableJobFailed as exc:
            self._last_error = exc.message
            self._tell()
            raise

    def _spread(self, timeout_s: float) -> None:
        try:
            self.fanout.add(self._landed.get(timeout=0 if self.fanout.hurries else timeout_s))
            self._landed_s = time.monotonic()
            while True:
                self.fanout.add(self._landed.get_nowait())
        except queue.Empty:
            pass
        # Where rows land one batch after the other, what can wait, waits.
        idle = not self._in_batch.locked() and time.monotonic() - self._landed_s > 2 * self._settings.trigger_s
        wrote = self.fanout.run(idle=idle)
        self.eraser.do_asked()
        if not (wrote and idle):
            # Where tables are written without a pause, what upkeep can't put off any longer is done between them.
            self._upkeep.run(idle=idle)
        if wrote or time.monotonic() - self._told_s > STATUS_EVERY_S:
            self._tell()

    def stop(self) -> None:
        """Let the batch under way finish, stop the query, and spread what has landed."""
        if self.alerts:
            self.alerts.stop()
        finished = self._in_batch.acquire(timeout=STOP_WAIT_S)
        try:
            self.query.stop()
        finally:
            if finished:
                self._in_batch.release()
        try:
            with _landing_usable(self._settings.warehouse_dir):
                while not self._landed.empty():
                    self.fanout.add(self._landed.get_nowait())
                while self.fanout.run(idle=True):
                    pass
        except TableJobFailed as exc:
            # Nobody waits for this any more, and what ended the job before is the better reason.
            log.error("what has landed is spread at the next start: %s", exc.message)
        self._upkeep.settle(JOIN_WAIT_S)
        self._tell()

    def _tell(self) -> None:
        self._told_s = time.monotonic()
        problem = self.alerts.problem if self.alerts else None
        write_status(self._settings.data, self.fanout, self._last_batch, self._records_behind(), self._last_error, problem)

    def _start(self, checkpoint: Path) -> StreamingQuery:
        source = self._spark.readStream.format("kafka").options(**spark_options(self._settings))
        source = source.option("subscribe", ",".join((RECORDS.name, ENDPOINTS.name, DEAD_LETTERS.name)))
        source = source.option("startingOffsets", "earliest").option("failOnDataLoss", "true")
        source = source.option("maxOffsetsPerTrigger", self._settings.max_offsets_per_trigger)
        source = source.option("kafka.fetch.max.wait.ms", FETCH_WAIT_MS)
        # Judged before it is cut into batches, so that the plan is made once.
        writer = judged(source.load()).writeStream.foreachBatch(self._on_batch).option("checkpointLocation", str(checkpoint))
        return writer.trigger(processingTime=f"{int(self._settings.trigger_s * 1000)} milliseconds").queryName("tables").start()

    def _on_batch(self, batch: DataFrame, batch_id: int) -> None:
        with self._in_batch:
            started_s = time.monotonic()
            try:
                landed = self.landing.take(batch, batch_id)
            except Exception as exc:
                self._batch_error = _lost_in_kafka(exc) or f"batch {batch_id} can't land in {self.landing.table.path}: {reason(exc)}"
                raise
            if landed is None:
                return
            took_ms = int((time.monotonic() - started_s) * 1000)
            self._last_batch = {"batch_id": batch_id, "rows": landed.rows, "took_ms": took_ms, "at_ms": int(time.time() * 1000)}
            log.info("batch %d: %d rows landed in %d ms", batch_id, landed.rows, took_ms)
            self._landed.put(landed)

    def _records_behind(self) -> int | None:
        progress: Any = self.query.lastProgress
        try:
            return int(float(progress["sources"][0]["metrics"]["maxOffsetsBehindLatest"]))
        except (KeyError, IndexError, TypeError, ValueError):
            return None


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then stop cleanly. Raises SluiceError where it can't start or go on."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # httpx would log the webhook's address, which may be a secret.
    for noisy in ("py4j", "aiokafka", "kafka", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    stopping = threading.Event()
    _on_signals(stopping)
    with _alone(settings.warehouse_dir):
        if not _topics_exist(settings, stopping):
            return
        spark = spark_session(settings, micro_batches=True)
        # pyspark has put its own handler in place of ours.
        _on_signals(stopping)
        try:
            job = TableJob(settings, spark)
            server = SqlServer(settings, spark, job.eraser.ask)
            server.start()
            print(f"SLUICE READY tables {settings.warehouse_dir}", flush=True)
            try:
                while not stopping.is_set():
                    job.step(0.5)
            finally:
                server.stop()
                job.stop()
        finally:
            spark.stop()


def forget(settings: Settings, user: str) -> Forgotten:
    """Erase a user where no table job runs. Raises TableJobFailed where one does, and what `Eraser.forget` raises."""
    with _alone(settings.warehouse_dir):
        spark = spark_session(settings)
        users = ErasedUsers(spark, settings.warehouse_dir, settings.data)
        return Eraser(spark, settings, users, nullcontext(), nullcontext()).forget(user)


def _topics_exist(settings: Settings, stopping: threading.Event) -> bool:
    """Make the topics that are missing, waiting a while for the broker; False where the wait was ended by a signal."""
    deadline_s = time.monotonic() + BROKER_WAIT_S
    while True:
        try:
            asyncio.run(create_topics(settings))
            return True
        except KafkaError as exc:
            if time.monotonic() > deadline_s:
                raise TableJobFailed(
                    f"Kafka at {settings.kafka} can't be reached: {exc!r}; start it, or name another with --kafka"
                ) from None
        if stopping.wait(1.0):
            return False


def _on_signals(stopping: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())


@contextmanager
def _alone(warehouse: Path) -> Iterator[None]:
    """Two table jobs on one warehouse would write rows twice: the second is refused. The lock goes with its process."""
    warehouse.mkdir(parents=True, exist_ok=True)
    file: IO[str]
    with (warehouse / ".table-job.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TableJobFailed(f"another table job writes {warehouse}; stop it first, or use another --data") from None
        yield


@contextmanager
def _landing_usable(warehouse: Path) -> Iterator[None]:
    """Whatever Spark raises here, the landing table is to blame: every other table's failure stays with that table."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as exc:
        raise TableJobFailed(
            f"the landing table in {warehouse.joinpath(*LANDING)} can't be used: {reason(exc)}; "
            "check that its folder can be read and written"
        ) from None


def _why(query: StreamingQuery) -> str:
    exc = query.exception()
    return "it was stopped" if exc is None else _lost_in_kafka(exc) or reason(exc)


def _lost_in_kafka(exc: BaseException) -> str | None:
    """What to do where records are gone that were not read yet; None for any other failure."""
    if not any(sign in str(exc).lower() for sign in ("data loss", "failondataloss", "may have been lost", "were aged out")):
        return None
    return (
        "Kafka no longer has records that were not read yet; to go on with what there is, delete DATA/checkpoints/tables "
        f"(rows that are in the tables stay and are not doubled). {reason(exc)}"
    )
