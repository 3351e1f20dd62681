"""Kafka's client as one process has it: what stands beneath the worker's own consumer and producer classes, and the reader of records.

`SimulatedConsumer` and `SimulatedProducer` are the worker's `ContiguousConsumer` and `IdempotentProducer` over another driver:
what may be committed, when, and what a failed delivery does is the real code. A record that was handed over lies in the process until its
sender comes to it (a process stopped there sends it when it wakes), then in the network, then in the log; its acknowledgement takes as
long again. The order of a partition is kept, that between partitions is not. Now and then a delivery is reported as failed though the
record is in the log.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import IllegalGenerationError, KafkaTimeoutError, UnknownMemberIdError
from faust.transport.drivers import aiokafka as faust_driver
from faust.types import TP

from pipeline import topics
from pipeline.worker.handing_over import HandingOver
from pipeline.worker.transport import ContiguousConsumer, IdempotentProducer, of_its_assignment
from tests.simulation.broker import Broker, Stored
from tests.simulation.scheduler import FAULTS_S

# The share of commits whose coordinator has to be looked for first.
SLOW_COMMITS = 0.03
LONGEST_DELAY_S = 2.0
SOURCES = (topics.REQUESTS.name, topics.ADMITTED.name, topics.CANCELLATIONS.name)


class Network:
    """How long things take between one process and the broker."""

    def __init__(self, world: Any, fails: float, slow: float) -> None:
        self._random, self.fails, self._slow = world.random, fails, slow

    def delay_s(self) -> float:
        """Mostly a millisecond or two, sometimes much more."""
        draw = self._random.random()
        if draw < 0.9 - self._slow:
            return 0.0005 + 0.002 * self._random.random()
        return 0.2 * self._random.random() if draw < 0.99 - self._slow else LONGEST_DELAY_S * self._random.random()


class _Buffer:
    """Faust's buffer of changelog records, on their way to the producer."""

    def __init__(self, producer: SimulatedProducer) -> None:
        self._producer = producer
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._numbers: deque[int] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, *record: Any) -> None:
        self._waiting.append(record)
        self._numbers.append(self._producer._handing_over.begin())
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._hand_over())

    async def _hand_over(self) -> None:
        while self._waiting:
            try:
                await self._producer.send(*self._waiting.popleft())
            finally:
                self._producer._handing_over.end(self._numbers.popleft())


class _Driver(faust_driver.Producer):
    """In the place of aiokafka: `send` hands over, `flush` waits for everything that was."""

    def begin(self, process: Any, network: Network) -> None:
        self.process, self.network = process, network
        self.buffer = _Buffer(self)  # type: ignore[assignment]
        self._handing_over = HandingOver()
        self._producer = self
        self._queues: dict[TP, deque[tuple[Any, ...]]] = {}
        # In the order of their sending: a set's order would differ from run to run.
        self._on_the_way: dict[asyncio.Future[Any], None] = {}

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None, timestamp: Any, headers: Any, **_: Any
    ) -> Awaitable[Any]:  # fmt: skip
        loop = self.process.loop
        if self.process.random.random() < 0.1:
            await asyncio.sleep(self.network.delay_s())
        tp = TP(topic, self.process.random.randrange(topics.REPLY_PARTITIONS) if partition is None else partition)
        future = loop.create_future()
        self._on_the_way[future] = None
        future.add_done_callback(lambda done: self._on_the_way.pop(done, None))
        queue = self._queues.setdefault(tp, deque())
        queue.append((key, value, headers, future))
        if len(queue) == 1:
            loop.call_later(self.network.delay_s() / 10, self._transmit, tp)
        return future  # type: ignore[no-any-return]

    def _transmit(self, tp: TP) -> None:
        """The sender's turn: what waits for this partition goes out; the next when it has been answered."""
        # kafka/pacing.py asks before each request.
        self.process.app.watchdog.may_write()
        batch = list(self._queues[tp])
        stamp = int((self.process.world.wall_s() + self.process.loop.clock_error_s) * 1000)
        self.process.world.later(self.network.delay_s(), lambda: self._arrive(tp, batch, stamp))

    def _arrive(self, tp: TP, batch: list[tuple[Any, ...]], stamp: int) -> None:
        process = self.process
        stored = [process.broker.append(tp, key, value, headers, stamp, process.name) for key, value, headers, _ in batch]
        process.at(self.network.delay_s(), self._answered, tp, batch, stored)

    def _answered(self, tp: TP, batch: list[tuple[Any, ...]], stored: list[Stored]) -> None:
        queue = self._queues[tp]
        fails = self.process.world.now_s < FAULTS_S and self.process.random.random() < self.network.fails
        for (_, _, _, future), record in zip(batch, stored, strict=True):
            queue.popleft()
            if future.done():  # whoever waited for it was cancelled
                continue
            if fails:
                future.set_exception(KafkaTimeoutError("simulated: the acknowledgement was lost for good"))
            else:
                future.set_result(SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=record.offset))
        if queue:
            self._transmit(tp)

    async def flush(self) -> None:
        """aiokafka's: everything that was handed over before this is answered."""
        if self._on_the_way:
            await asyncio.wait(list(self._on_the_way))


class SimulatedProducer(IdempotentProducer, _Driver):
    """The worker's producer over the model."""

    def __init__(self, process: Any, network: Network) -> None:
        self.begin(process, network)

    # IdempotentProducer.flush would be asked by its own `delivered`, which means aiokafka's.
    flush = _Driver.flush


class _Consumer(faust_driver.Consumer):
    """In the place of Faust's consumer: what it keeps, and the calls that reach the broker."""

    def begin(self, process: Any, network: Network) -> None:
        self.process, self.network, self.app = process, network, process.app
        self._base, self._finished, self._holes = {}, {}, {}
        self._released, self._waiting, self._buffered_partitions = set(), set(), set()
        self._acked, self._n_acked, self._read_offset = {}, 0, {}
        self._committed_offset = defaultdict(lambda: None)
        self._unacked_messages = SimpleNamespace(discard=lambda _: None)
        self.assigned: set[TP] = set()
        self.aiokafka_assignment = SimpleNamespace(active=True)
        self.coordinator: Any = _Coordinator(self)
        self.coordinator._do_commit_offsets = of_its_assignment(self.coordinator._do_commit_offsets)
        self.generation = 0

    def assignment(self) -> set[TP]:
        return self.assigned

    def _is_changelog_tp(self, tp: TP) -> bool:
        return False

    async def _commit(self, offsets: Any) -> bool:
        # As aiokafka's: it looks for the coordinator, tries again where it must, and names the generation that it knows by then.
        assignment = self.aiokafka_assignment
        if self.process.random.random() < SLOW_COMMITS:
            await asyncio.sleep(self.process.random.choice((0.3, 3.0, 12.0)) * self.process.random.random())
        try:
            await self.coordinator._do_commit_offsets(assignment, offsets)
        except (IllegalGenerationError, UnknownMemberIdError):
            return False
        return True

    def _assigned(self, generation: int, partitions: frozenset[int]) -> None:
        """A join has ended."""
        self.generation = generation
        self.assigned = {TP(topic, p) for topic in SOURCES for p in partitions}
        self.aiokafka_assignment.active = False
        self.aiokafka_assignment = SimpleNamespace(active=True)

    async def seek_to_committed(self) -> dict[TP, int | None]:
        await asyncio.sleep(self.network.delay_s())
        return {tp: self.process.broker.committed.get(tp) for tp in self.assigned}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        await asyncio.sleep(self.network.delay_s())
        return dict.fromkeys(partitions, 0)

    async def seek_wait(self, places: Any) -> None:
        pass

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for tp in revoked:
            for state in (self._acked, self._read_offset, self._committed_offset):
                state.pop(tp, None)
        await self.process.on_revoked(revoked)


class _Coordinator:
    """The part of aiokafka's group coordinator that commits."""

    def __init__(self, consumer: _Consumer) -> None:
        self._consumer = consumer

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        consumer, process, generation = self._consumer, self._consumer.process, self._consumer.generation
        await asyncio.sleep(consumer.network.delay_s())
        if not process.group.may_commit(process.name, generation):
            raise IllegalGenerationError
        process.broker.commit(dict(offsets), process.name)
        await asyncio.sleep(consumer.network.delay_s())


class SimulatedConsumer(ContiguousConsumer, _Consumer):
    """The worker's consumer over the model."""

    def __init__(self, process: Any, network: Network) -> None:
        self.begin(process, network)

    async def commit_once(self) -> None:
        """One turn of Faust's commit loop."""
        offsets = self._filter_committable_offsets(list(self._acked))
        if offsets:
            await self._commit_offsets(offsets)


class Reader:
    """aiokafka's consumer as the index of finished requests uses it: no group, assigned by hand."""

    def __init__(self, broker: Broker, network: Network) -> None:
        self._broker, self._network = broker, network
        self._positions: dict[Any, int] = {}
        self._paused: set[Any] = set()
        # Nothing is fetched before it is asked for.
        self._fetcher = SimpleNamespace(_records={})

    async def offsets_for_times(self, times: dict[Any, int]) -> dict[Any, Any]:
        await asyncio.sleep(self._network.delay_s())
        found = {}
        for place, since_ms in times.items():
            log = self._broker.log.get(TP(place.topic, place.partition), ())
            first = next((record.offset for record in log if record.timestamp >= since_ms), None)
            found[place] = None if first is None else SimpleNamespace(offset=first)
        return found

    async def end_offsets(self, places: Any) -> dict[Any, int]:
        await asyncio.sleep(self._network.delay_s())
        return {place: len(self._broker.log.get(TP(place.topic, place.partition), ())) for place in places}

    def assign(self, places: Any) -> None:
        self._positions, self._paused = dict.fromkeys(places, 0), set()

    def seek(self, place: Any, offset: int) -> None:
        self._positions[place] = offset

    def pause(self, place: Any) -> None:
        self._paused.add(place)

    async def position(self, place: Any) -> int:
        return self._positions[place]

    async def getmany(self, *wanted: Any, timeout_ms: int = 0) -> dict[Any, list[Stored]]:
        await asyncio.sleep(self._network.delay_s())
        found = {}
        for place, position in self._positions.items():
            records = self._broker.log.get(TP(place.topic, place.partition), [])[position : position + 5]
            if records and place not in self._paused and (not wanted or place in wanted):
                found[place] = records
                self._positions[place] = position + len(records)
        return found
