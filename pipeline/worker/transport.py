"""Faust's Kafka driver, made safe to commit with work in flight. The facts behind each override are in docs/decisions/.

What it changes, and nothing else:

- `ContiguousConsumer` commits only the run of finished offsets that is contiguous from a base it holds itself. Faust 0.15.3
  commits past an unfinished event at the head of a partition, and on a new group has no guard at all (faust#606).
- It commits only after everything this process has handed over by then (pipeline/worker/handing_over.py) was acknowledged by the broker,
  and not at all where a produce failed.
- Requests are fetched after a rebalance only when it is over (pipeline/worker/releasing.py): Faust drops some of them.
- Where nothing is committed yet it goes back to the earliest offset after a rebalance, which aiokafka does not.
- A commit that was begun under one assignment is not finished under another, and sets nothing back.
- It ignores acks of an earlier generation: such an event comes again and must be finished again.
- Nothing is sent while the session may be over, and connections that lead nowhere are given up (pipeline/worker/session.py).
- `IdempotentProducer` sets acks=all and idempotence, and remembers the first failed delivery.
- `ConsumerInLoop` runs Faust's consumer on the worker's own loop instead of in a thread: no hand-over and no wrangling over Python's lock
  for each fetch. Its long poll is 100 ms instead of 1,500, which is what a partition waits after a pause. Fetches are incremental
  (pipeline/kafka/fetch_session.py), produce requests are paced (pipeline/kafka/pacing.py).

A failed produce ends the process (the supervisor starts it again, and Kafka delivers again what was not committed).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiokafka
from aiokafka.errors import IllegalGenerationError, IllegalStateError
from faust.exceptions import ProducerSendError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from pipeline.kafka.connection import REQUEST_TIMEOUT_S, has_died
from pipeline.kafka.fetch_plan import FetchPlan
from pipeline.kafka.fetch_session import FetchSessions
from pipeline.kafka.fetched import forget_fetched
from pipeline.kafka.pacing import paced
from pipeline.worker.handing_over import CountedBuffer, HandingOver
from pipeline.worker.releasing import ReleasesSources
from pipeline.worker.waiting import WaitsLittle
from pipeline.worker.watchdog import PASSED_OVER, SESSION_OVER, Waiting, leave

log = logging.getLogger(__name__)
FETCH_MAX_WAIT_MS = 100


class ConsumerInLoop(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread without the thread: on the worker's own loop, and with a shorter long poll."""

    wait_for_shutdown = False

    def __init__(self, consumer: driver.Consumer, *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)

    async def start(self) -> None:
        """Start as a plain service does."""
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        """Stop as a plain service does."""
        if self._started.is_set():
            await Service.stop(self)

    async def on_stop(self) -> None:
        """Leave the group and disconnect."""
        await self.on_thread_stop()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing to hand over."""
        result = fun(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Nothing to hand over. What was fetched and not read is fetched again, by whoever is next."""
        forget_fetched(self._consumer, (aiokafka.TopicPartition(tp.topic, tp.partition) for tp in revoked))
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Nothing to hand over."""
        await self.consumer.on_partitions_assigned(assigned, generation_id)

    async def _stop_children(self) -> None:
        await self._default_stop_children()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def _stop_exit_stacks(self) -> None:
        await self._default_stop_exit_stacks()

    def _stopped_set(self) -> None:
        self._stopped.set()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Hard-coded to 1,500 in the driver; the fetcher is made from this attribute when the consumer starts.
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        # Not Faust's setting: that is also how long a recovery may take as a whole. A member that joins waits for the session of one that
        # died, so a connection may be silent for that long.
        consumer._client._request_timeout_ms = consumer._session_timeout_ms * 2
        consumer._client.send = FetchSessions(consumer._client.send)
        return consumer

    async def on_start(self) -> None:
        """Connect."""
        await super().on_start()
        coordinator = self._consumer._coordinator
        coordinator._do_commit_offsets = of_its_assignment(coordinator._do_commit_offsets)
        coordinator._do_heartbeat = self.app.session.heartbeat(coordinator, self._session_over)
        fetcher = self._consumer._fetcher
        fetcher._get_actions_per_node = FetchPlan(fetcher, self._is_fetched)

    def _session_over(self) -> None:
        if self.app.producer.has_unwritten():
            leave(SESSION_OVER, "its session was over before all was written; the partitions may be another worker's")

    def _is_fetched(self, topic: str) -> bool:
        """Changelogs are read while tables are recovered, and at no other time."""
        return self.app.in_recovery or topic not in self.app.tables.changelog_topics


def of_its_assignment(commit: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """aiokafka's commit, which looks for the coordinator and tries again for as long as it takes, and names the generation of that later
    moment: the broker then takes offsets that go back, of partitions that may be another worker's. One whose assignment is over fails
    instead, as if the broker had refused its generation."""

    async def commit_while_assigned(assignment: Any, offsets: Any) -> None:
        if not assignment.active:
            raise IllegalGenerationError
        await commit(assignment, offsets)

    return commit_while_assigned


class ContiguousConsumer(WaitsLittle, ReleasesSources):
    """`_base` is where each partition's next commit starts: the committed offset, or the earliest one on a new group."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._base: dict[TP, int] = {}
        self._finished: dict[TP, set[int]] = {}
        self._holes: dict[TP, dict[int, int]] = {}

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return ConsumerInLoop(self, loop=self.loop, beacon=self.beacon)

    def ack(self, message: Any) -> bool:
        """Mark a message as finished; False where it was before, or belongs to an earlier generation."""
        if message.acked or message.generation_id != self.app.consumer_generation_id:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        tp = message.tp
        if not self.app.topics.acks_enabled_for(message.topic):
            return False
        self._finished.setdefault(tp, set()).add(message.offset)
        # The key alone: Faust asks this mapping which partitions may have something to commit.
        self._acked[tp] = []
        self._n_acked += 1
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets from `offset_from` up to, not including, the message at `offset_to` did not come. Where retention has deleted them they
        do not exist. Otherwise they were dropped on the way: then the process ends before it works on what stands behind them."""
        if offset_from >= offset_to:
            return
        if (await self.earliest_offsets(tp))[tp] < offset_to:
            leave(PASSED_OVER, f"offsets {offset_from} to {offset_to - 1} of {tp.topic}[{tp.partition}] were not delivered")
        self._holes.setdefault(tp, {})[offset_from] = offset_to

    def _new_offset(self, tp: TP) -> int | None:
        """The offset that may be committed now, or None. Changes nothing, so that a commit that fails can be tried again."""
        base = self._base.get(tp)
        if base is None:
            return None
        finished, holes, offset = self._finished.get(tp, set()), self._holes.get(tp, {}), base
        while True:
            if offset in finished:
                offset += 1
            elif offset in holes:
                offset = holes[offset]
            else:
                return offset if offset > base else None

    def unfinished(self) -> dict[TP, int]:
        """For each partition with finished events that can't be committed yet: the offset that holds them up."""
        return {tp: self._new_offset(tp) or self._base[tp] for tp, done in self._finished.items() if done and tp in self._base}

    async def waiting(self) -> dict[TP, Waiting]:
        """The partitions with records that are not finished, read or not. Raises KafkaError."""
        ends = await self.highwaters(*self._base)
        found = {}
        for tp, end in ends.items():
            # Of this moment, so that what was read while the broker was asked counts. Before the first record it is the offset sought.
            base, read = self._base.get(tp), self._read_offset.get(tp)
            if base is not None and end > base:
                found[tp] = Waiting(self._new_offset(tp) or base, base - 1 if read is None else read, end)
        return found

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        assignment = self.assignment()
        committable = {tp: offset for tp, offset in offsets.items() if tp in assignment}
        generation = self.app.consumer_generation_id
        if not committable or not await self.app.producer.delivered():
            return False
        # A rebalance may have come meanwhile: what is finished and what is committed is then counted anew.
        if generation != self.app.consumer_generation_id or not await self._commit(committable):
            return False
        if generation != self.app.consumer_generation_id:
            return True
        for tp, offset in committable.items():
            self._base[tp] = offset
            self._finished[tp] = {o for o in self._finished.get(tp, ()) if o >= offset}
            self._holes[tp] = {start: end for start, end in self._holes.get(tp, {}).items() if end > offset}
        self._committed_offset.update(committable)
        self.app.monitor.on_tp_commit(committable)
        return True

    async def perform_seek(self) -> None:
        """Go back to what is committed, and commit on from there.

        Where nothing is committed, aiokafka's own way back stays where it is: a record that was fetched while a rebalance went on, and
        dropped for it, would never come again. There the earliest offset is what to go back to.
        """
        await super().perform_seek()
        assigned = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        sources = {tp for tp in assigned if not self._is_changelog_tp(tp)}
        unknown = [tp for tp in sources if self._committed_offset.get(tp) is None]
        earliest = await self.earliest_offsets(*unknown) if unknown else {}
        for tp in sources:
            committed = self._committed_offset.get(tp)
            self._base[tp] = committed if committed is not None else earliest.get(tp) or 0
            if committed:
                # Faust notes what comes next here, and what came last elsewhere: the first record could be missing unnoticed.
                self._read_offset[tp] = committed - 1
        for state in (self._base, self._finished, self._holes):
            for tp in set(state) - sources:
                state.pop(tp, None)
        try:
            await self.seek_wait({tp: self._base[tp] for tp in unknown})
        except IllegalStateError as exc:
            log.info("a partition was taken away while it was being read from its beginning: %s", exc)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was finished: it is delivered again from the committed offset, to this worker or another.

        Output is held back from here on, before Faust waits for what has been handed over: a record handed over during that wait would
        reach the log when the partition's next owner has read it already.
        """
        self.app.ownership.revoked()
        self.app.session.rejoins()
        for tp in revoked:
            self._base.pop(tp, None)
            self._finished.pop(tp, None)
            self._holes.pop(tp, None)
        await super().on_partitions_revoked(revoked)


class IdempotentProducer(driver.Producer):
    """`failure` is the first delivery that failed for good; from then on nothing is committed."""

    failure: BaseException | None = None
    on_failure: Callable[[BaseException], None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handing_over = HandingOver()
        self.buffer = CountedBuffer(self._handing_over, loop=self.loop, beacon=self.beacon)
        self.buffer.app = self.app

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        # Not the producer's own setting: that is also how long a record may wait for room in its buffer, and a broker may be away for long.
        producer.client._request_timeout_ms = int(REQUEST_TIMEOUT_S * 1000)
        # What was handed over before the process was stopped may not go out when it wakes as another's.
        return paced(producer, self._may_send)

    async def _may_send(self) -> None:
        await self.app.session.certain()
        self.app.watchdog.may_write()

    def has_unwritten(self) -> bool:
        """Whether something was handed over that the broker has not acknowledged."""
        accumulator = self._producer._message_accumulator if self._producer is not None else None
        waiting = accumulator is not None and (any(accumulator._batches.values()) or bool(accumulator._pending_batches))
        return bool(self._handing_over) or waiting

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def send(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """As the driver's, and a delivery that fails is remembered; so is a producer whose sending task has died, which takes no record
        any more."""
        number = self._handing_over.begin()
        try:
            future: Any = await super().send(*args, **kwargs)
        except ProducerSendError as exc:
            if self._producer is not None and has_died(self._producer):
                self._failed(exc)
            raise
        finally:
            self._handing_over.end(number)
        future.add_done_callback(self._settled)
        return future  # type: ignore[no-any-return]

    def _settled(self, future: asyncio.Future[Any]) -> None:
        failure = None if future.cancelled() else future.exception()
        if failure is not None:
            self._failed(failure)

    def _failed(self, failure: BaseException) -> None:
        if self.failure is None:
            self.failure = failure
            log.error("a record could not be produced: %r; nothing is committed from here on", failure)
            if self.on_failure:
                self.on_failure(failure)

    async def flush(self) -> None:
        """Wait until the broker has everything. Faust's own gives up after 0.1 s."""
        await self.delivered()

    async def delivered(self) -> bool:
        """Wait until all that was handed over so far is in the log; False where a part of it never will be."""
        await self._handing_over.all_so_far()
        if self._producer is not None:
            await self._producer.flush()
        return self.failure is None


class Transport(driver.Transport):
    """The driver with both of the above."""

    Consumer = ContiguousConsumer
    Producer = IdempotentProducer
