"""The worker: topics, tables and agents on one screen, and the Faust settings with their reasons.

    gateway.commands      -> control        one partition: one writer of configuration
    gateway.requests      -> admit          counts, so one at a time; owns the windowed tables
    gateway.admitted      -> serve          a task for each request
    gateway.cancellations -> cancellations  same key and partitions as admitted, so the owner hears it

The app is made by a function, agents are registered here and nowhere else. `main` runs until SIGTERM: what runs is finished
(bounded), the rest is left to other workers.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import Any

import faust
import uvloop
from aiokafka.errors import KafkaError
from yarl import URL

from pipeline import safety, topics
from pipeline.endpoints import Endpoint, Token
from pipeline.errors import SluiceError
from pipeline.garbage import collect_seldom
from pipeline.kafka.admin import create_topics
from pipeline.kafka.connection import MAX_REQUEST_BYTES, faust_credentials
from pipeline.kafka.follower import Follower
from pipeline.ner import NerPool
from pipeline.open_files import allow_many
from pipeline.providers.client import ProviderClient
from pipeline.settings import Settings
from pipeline.topics import COUNTED_PARTITIONS
from pipeline.worker.admit import Admit
from pipeline.worker.call import Caller
from pipeline.worker.control import Control
from pipeline.worker.finished import FinishedIndex
from pipeline.worker.guard import Guards
from pipeline.worker.long_texts import LongTexts
from pipeline.worker.out import Out
from pipeline.worker.ownership import Ownership
from pipeline.worker.serve import Serve
from pipeline.worker.session import Session
from pipeline.worker.slots import Slots
from pipeline.worker.transport import Transport
from pipeline.worker.watchdog import NOT_PRODUCED, Watchdog, leave
from pipeline.worker.windows import LimitWindows, changelog_topics

log = logging.getLogger(__name__)
DRAIN_S = 15.0


class Worker(faust.App):
    """Faust's app with our Kafka driver, and with the parts that start before its consumer and stop after it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            topics.WORKER_GROUP,
            broker=[URL(f"kafka://{server}") for server in settings.kafka.split(",")],
            broker_credentials=faust_credentials(settings),
            store="memory://",
            # Ours are created by kafka/admin.py; Faust may not make any with other settings.
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=COUNTED_PARTITIONS,
            # With "latest", a changelog that retention has shortened is never recovered and the worker hangs.
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=MAX_REQUEST_BYTES,
            producer_max_request_size=MAX_REQUEST_BYTES,
            producer_linger=0,
            # After kill -9 the partitions rest for this long.
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.session_timeout_s / 4,
            broker_rebalance_timeout=60.0,
            broker_commit_interval=1.0,
            table_standby_replicas=0,
            # A rebalance must not wait for the longest call: calls go on, and ownership.py holds their output back.
            stream_wait_empty=False,
            stream_buffer_maxsize=512,
            stream_recovery_delay=0.0,
            # Faust's own web server listens on all addresses and serves the tables.
            web_enabled=False,
            value_serializer="raw",
            key_serializer="raw",
        )
        self.endpoints = Follower(settings, topics.ENDPOINTS, Endpoint.model_validate_json)
        self.tokens = Follower(settings, topics.TOKENS, Token.model_validate_json)
        self.finished = FinishedIndex(settings)
        self.ownership, self.session = Ownership(), Session(settings.session_timeout_s)
        self.watchdog = Watchdog(settings.session_timeout_s, stuck_s=settings.deadline_s + 120)
        # Asked once more when the connection is there: a worker that was stopped while it connected must not call when it wakes.
        self.provider = ProviderClient(settings, self.watchdog.may_write)
        self.out = Out(self, frozenset(settings.reply_topics.split(",")), self.watchdog.may_write)
        slots = Slots(settings.max_in_flight_per_endpoint, settings.max_queued_per_endpoint)
        self.ner, self.long_texts = NerPool(settings.ner_processes), LongTexts()
        self.safety = safety.engine(settings)
        self.guards = Guards(self.safety, self.ner, self.long_texts, settings.guardrail_timeout_s)
        caller = Caller(self.provider, slots, self.guards, self.watchdog.may_write)
        self.serve = Serve(self.out, self.endpoints, caller, self.finished, self.ownership)
        self._background: set[asyncio.Task[None]] = set()

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)

    async def maybe_start_producer(self) -> Any:
        """As Faust's, which is asked for every table write: its guard against many starts at once gives the loop away three times, and
        under load the writes then come slower than the requests they belong to."""
        return self.producer if self.producer.started else await super().maybe_start_producer()

    async def on_start(self) -> None:
        """Topics, followers and clients first: an agent's first event finds everything in place."""
        self.guards.prepare()
        await create_topics(self.settings, changelog_topics())
        await asyncio.gather(self.endpoints.start(), self.tokens.start(), self.provider.start(), self.finished.start())
        self.producer.on_failure = lambda failure: leave(NOT_PRODUCED, f"a record could not be produced: {failure!r}")
        await super().on_start()
        self.in_background(self.watchdog.run(self.consumer))
        self.in_background(self.watchdog.watch_reading(self.consumer, lambda: self.rebalancing or self.in_recovery))

    async def stop(self) -> None:
        """Finish what runs, at most DRAIN_S, then stop; what is left is another worker's."""
        left = await self.serve.drain(DRAIN_S)
        if left:
            log.warning("%d calls were still under way; other workers run them", left)
        await super().stop()
        for task in self._background:
            task.cancel()
        parts = (self.endpoints, self.tokens, self.provider, self.finished, self.ner, self.long_texts)
        await asyncio.gather(*(part.stop() for part in parts), return_exceptions=True)
        if self.safety is not None:
            await self.safety.close()

    def in_background(self, work: Any) -> None:
        """Run a coroutine for as long as the worker lives; one that fails ends the worker."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            leave(NOT_PRODUCED, f"a part of the worker failed: {task.exception()!r}")


def create_worker(settings: Settings) -> Worker:
    """The worker with all its agents and tables; nothing is started."""
    app = Worker(settings)

    def source(topic: topics.Topic) -> Any:
        return app.topic(topic.name, partitions=topic.partitions, key_type=bytes, value_type=bytes, acks=True, allow_empty=True)

    windows = LimitWindows(app)
    app.agent(source(topics.COMMANDS), name="control")(Control(app.out, app.endpoints, app.tokens).__call__)
    admit = Admit(windows, app.out, app.endpoints, app.guards, app.ownership, settings.deadline_s)
    app.agent(source(topics.REQUESTS), name="admit")(admit.__call__)
    app.agent(source(topics.ADMITTED), name="serve")(app.serve.__call__)
    app.agent(source(topics.CANCELLATIONS), name="cancellations")(app.serve.cancellations)

    async def on_assigned(sender: Any, assigned: Any, **kwargs: Any) -> None:
        owned = frozenset(tp.partition for tp in assigned if tp.topic == topics.ADMITTED.name)
        app.session.renewed(time.monotonic())
        app.serve.lose(app.ownership.assigned(owned))
        app.in_background(app.finished.load(app.finished.keep_only(owned)))

    async def on_ready(sender: Any, **kwargs: Any) -> None:
        print(f"SLUICE READY {settings.worker_id} {len(app.ownership.owned)} partitions", flush=True)

    app.on_partitions_assigned.connect(on_assigned)
    app.on_rebalance_complete.connect(on_ready)
    return app


def main(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; exits non-zero where it fails."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("aiokafka", "httpx", "httpcore", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    collect_seldom()
    allow_many()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        app = create_worker(settings)
        # A worker that wakes from SIGSTOP looks at its clock first: a call could be half way between its check and its socket.
        signal.signal(signal.SIGCONT, lambda *_: app.watchdog.may_write())
        worker = faust.Worker(app, loglevel="WARNING", override_logging=False, redirect_stdouts=False, quiet=True)
        worker.execute_from_commandline()
    except (KafkaError, SluiceError) as exc:
        sys.exit(f"the worker could not start: {exc}; is Kafka at {settings.kafka}? `sluice doctor` says more")
