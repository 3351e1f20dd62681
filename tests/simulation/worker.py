"""One worker process: the real parts put together as worker/app.py does it, and what Faust does around them, in a model.

Real: Admit, LimitWindows, Serve, Caller, Pieces, Streamed, Slots, Out, FinishedIndex, Ownership, Watchdog, Follower's memory, and what the
transport commits. Modelled after Faust 0.15.3: fetching, the agents' buffers, the order of things in a rebalance (stop the flow, clear the
buffers, flush, tell; then assign, recover the tables, seek, go on), the commit loop, and aiokafka's heartbeats and joins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from pipeline import topics
from pipeline.endpoints import Endpoint
from pipeline.kafka.follower import Follower, _revision_of
from pipeline.settings import Settings
from pipeline.worker.admit import Admit
from pipeline.worker.call import Caller
from pipeline.worker.finished import FinishedIndex
from pipeline.worker.guard import Guards
from pipeline.worker.out import Out
from pipeline.worker.ownership import Ownership
from pipeline.worker.serve import Serve
from pipeline.worker.session import Session
from pipeline.worker.slots import Slots
from pipeline.worker.watchdog import NOT_PRODUCED, Watchdog
from pipeline.worker.windows import LimitWindows
from tests.simulation.broker import Stored
from tests.simulation.driver import SOURCES, Network, Reader, SimulatedConsumer, SimulatedProducer
from tests.simulation.group import HEARTBEAT_S, SESSION_S
from tests.simulation.provider import Provider
from tests.simulation.scheduler import Loop
from tests.simulation.tables import Tables

DEADLINE_S = 20.0
SETTINGS = Settings(deadline_s=DEADLINE_S, session_timeout_s=SESSION_S)
_decoded = lru_cache(maxsize=256)(Endpoint.model_validate_json)


class Event:
    """What an agent gets: a message of the consumer's generation."""

    __slots__ = ("_consumer", "message", "value")

    def __init__(self, consumer: SimulatedConsumer, record: Stored, generation: int) -> None:
        self._consumer, self.value = consumer, record.value
        self.message = SimpleNamespace(
            topic=record.topic, partition=record.partition, offset=record.offset, timestamp=record.timestamp / 1000, key=record.key,
            headers=record.headers, tp=TP(record.topic, record.partition), acked=False, generation_id=generation,
        )  # fmt: skip

    def ack(self) -> None:
        self._consumer.ack(self.message)


class Stream:
    """An agent's buffer; events of an earlier generation are skipped, as Faust does."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.waiting: deque[Event] = deque()
        self._more: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        self.waiting.append(event)
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def noack(self) -> Stream:
        return self

    async def events(self) -> AsyncIterator[Event]:
        while True:
            while not self.waiting:
                self._more = self._process.loop.create_future()
                await self._more
            event = self.waiting.popleft()
            if event.message.generation_id == self._process.app.consumer_generation_id:
                if event.message.topic == topics.REQUESTS.name:
                    self._process.admitting = event.message
                yield event


class Configurations(Follower[Endpoint]):
    """The follower's memory; records are handed to `take` when they arrive."""

    async def take(self, record: Stored) -> None:
        async with self._changed:
            self._take((record.key or b"").decode(), record.value)
            self._position = record.offset + 1
            self._seen_revision = max(self._seen_revision, _revision_of(record.headers))
            self._changed.notify_all()


class Process:
    """A worker from its start to its end. `room` holds what all processes share: broker, group, calls, finished ids."""

    def __init__(self, room: Any, name: str, clock_error_s: float) -> None:
        self.room, self.name, self.world = room, name, room.world
        self.broker, self.group, self.random = room.broker, room.group, room.world.random
        self.loop = Loop(self.world, name, clock_error_s)
        self.network = Network(self.world, room.delivery_fails, room.slow)
        self.app: Any = SimpleNamespace(
            consumer_generation_id=0, monitor=SimpleNamespace(on_tp_commit=lambda _: None),
            topics=SimpleNamespace(acks_enabled_for=lambda _: True), tables=SimpleNamespace(changelog_topics=()), Table=Tables(self),
        )  # fmt: skip
        self.admitting: Any = None
        self.flow = self._fetching = self._joining = False
        self._positions: dict[TP, int] = {}
        self._unread: dict[TP, None] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._configured_at_s = 0.0
        self.loop.call_soon(self._start)
        self.world.loops.append(self.loop)

    def at(self, delay_s: float, callback: Any, *args: Any) -> None:
        """Call back in this process after a while."""
        if self.loop.alive:
            self.loop.call_later(delay_s, callback, *args)

    def _start(self) -> None:
        app, chance = self.app, self.random
        app.producer = self.producer = SimulatedProducer(self, self.network)
        self.consumer = SimulatedConsumer(self, self.network)
        self.ownership = app.ownership = Ownership()
        app.session = Session(SESSION_S)
        self.watchdog = app.watchdog = Watchdog(SESSION_S, stuck_s=DEADLINE_S + 120)
        self.producer.on_failure = lambda failure: self.room.leave(NOT_PRODUCED, f"a record could not be produced: {failure!r}")
        self.out = Out(app, frozenset({topics.RESPONSES.name}), self.watchdog.may_write)
        self.out.new_id = self.room.new_run_id  # type: ignore[method-assign]
        self.endpoints = Configurations(SETTINGS, topics.ENDPOINTS, _decoded)
        guards = Guards(None, None, None, 10.0)  # type: ignore[arg-type]
        slots = Slots(chance.choice((2, 8)), chance.choice((1, 8)))
        self.finished = FinishedIndex(SETTINGS)
        self.finished._reader = Reader(self.broker, self.network)  # type: ignore[assignment]
        self.finished._stored._reader = Reader(self.broker, self.network)  # type: ignore[assignment]
        provider = Provider(self, self.room.calls, self.room.finished)
        caller = Caller(provider, slots, guards, self.watchdog.may_write)
        self.serve = Serve(self.out, self.endpoints, caller, self.finished, self.ownership)
        admit = Admit(LimitWindows(app), self.out, self.endpoints, guards, self.ownership, DEADLINE_S)
        self.streams = {topic: Stream(self) for topic in SOURCES}
        for record in self.broker.records(topics.ENDPOINTS.name):
            self.background(self.endpoints.take(record))
        self.broker.listeners[topics.ENDPOINTS.name].append(self._configured)
        for topic in SOURCES:
            self.broker.listeners[topic].append(self._appended)
        self.background(admit(self.streams[topics.REQUESTS.name]))
        self.background(self.serve(self.streams[topics.ADMITTED.name]))
        self.background(self.serve.cancellations(self.streams[topics.CANCELLATIONS.name]))
        for part in (self.watchdog.run(self.consumer), self._commits(), self._heartbeats(), self._membership()):
            self.background(part)

    def background(self, work: Any) -> None:
        """Run for as long as the process lives; a failure is a finding."""
        task = self.loop.create_task(work)
        task.add_done_callback(self._background_ended)
        self._tasks.append(task)

    def _background_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None and self.loop.alive:
            self.loop.failures.append(f"a part of {self.name} failed: {task.exception()!r}")

    # --- configurations and records as they arrive

    def _configured(self, record: Stored) -> None:
        self._configured_at_s = max(self._configured_at_s, self.world.now_s + self.random.choice((0.01, 0.3, 4.5)))
        self.at(self._configured_at_s - self.world.now_s, lambda: self.background(self.endpoints.take(record)))

    def _appended(self, record: Stored) -> None:
        tp = TP(record.topic, record.partition)
        if self.loop.alive and tp in self._positions:
            self._unread[tp] = None
            self._fetch_soon()

    def _fetch_soon(self) -> None:
        if self.flow and not self._fetching:
            self._fetching = True
            self.at(self.network.delay_s(), self._fetch)

    def _fetch(self) -> None:
        self._fetching = False
        if not self.flow:
            return
        unread, self._unread = list(self._unread), {}
        self.random.shuffle(unread)
        for tp in unread:
            position = self._positions[tp]
            records = self.broker.log[tp][position : position + 4]
            for record in records:
                self.streams[tp.topic].put(Event(self.consumer, record, self.app.consumer_generation_id))
            self._positions[tp] = position + len(records)
            if self._positions[tp] < len(self.broker.log[tp]):
                self._unread[tp] = None
        if self._unread:
            self._fetch_soon()

    # --- the group

    async def _commits(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self.consumer.commit_once()

    async def _heartbeats(self) -> None:
        wait_s = HEARTBEAT_S
        while True:
            await asyncio.sleep(wait_s)
            sent_s, wait_s = self.world.now_s, HEARTBEAT_S
            generation = self.consumer.generation
            if self._joining:
                continue
            await asyncio.sleep(self.network.delay_s())
            answer = self.group.heartbeat(self.name, generation)
            await asyncio.sleep(self.network.delay_s())
            wait_s = max(0.0, sent_s + HEARTBEAT_S - self.world.now_s)
            if answer != "ok" and not self._joining and generation == self.consumer.generation:
                self._rejoin.set()

    async def _membership(self) -> None:
        self._rejoin = asyncio.Event()
        while True:
            self._joining = True
            future = self.loop.create_future()
            await asyncio.sleep(self.network.delay_s())
            self.group.join(self.name, lambda *given, future=future: self.at(self.network.delay_s(), future.set_result, given))
            generation, partitions = await future
            self.app.consumer_generation_id = generation
            self.consumer._assigned(generation, partitions)
            self._rejoin.clear()
            self._joining = False
            await self._on_assigned(generation, partitions)
            await self._rejoin.wait()
            self.world.tell(f"{self.name}: partitions are revoked")
            # Heartbeats go on meanwhile.
            await self.consumer.on_partitions_revoked(set(self.consumer.assigned))

    async def on_revoked(self, revoked: set[TP]) -> None:
        """Faust's part in it."""
        self.flow = False
        if self._recovery is not None:
            self._recovery.cancel()
        self._positions, self._unread = {}, {}
        for stream in self.streams.values():
            stream.waiting.clear()
        await self.producer.delivered()

    async def _on_assigned(self, generation: int, partitions: frozenset[int]) -> None:
        """Faust's part in it; the three lines in the middle are app.py's."""
        await asyncio.sleep(0)
        self.serve.lose(self.ownership.assigned(partitions))
        self.background(self.finished.load(self.finished.keep_only(partitions)))
        self._recovery = self.loop.create_task(self._recover(generation, partitions))

    async def _recover(self, generation: int, partitions: frozenset[int]) -> None:
        await self.app.Table.recover(partitions)
        await self.consumer.perform_seek()
        if self.app.consumer_generation_id != generation:
            return
        # Sorted, since a set's order would differ from run to run.
        self._positions = dict(sorted(self.consumer._base.items()))
        self._unread = {tp: None for tp, position in self._positions.items() if position < len(self.broker.log.get(tp, ()))}
        self.flow = True
        if self._unread:
            self._fetch_soon()
