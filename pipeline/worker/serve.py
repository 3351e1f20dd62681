"""The serve agent: gateway.admitted -> the answer and the record. Hundreds of calls under way at once.

    1. Each event gets a task of its own and is not acked until its answer and its record are in the log.
    2. A finished request (finished.py) is answered again from its record; one under way answers all that asked for it.
    3. worker/call.py says what it came to. The record is written and acknowledged first, then the answer, then the event is acked.
       A streamed answer goes out in pieces before that (pieces.py); then only its end comes after the record.

What can go wrong: where the partition is lost in a rebalance, the call is cancelled, nothing is written, and its new owner runs it.
A client that goes away (gateway.cancellations) cancels its call; the row says so. A failed produce ends the worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from pipeline import json_text
from pipeline.core.outcome import Outcome, answer_record, inference_record, stream_end
from pipeline.endpoints import Endpoint
from pipeline.envelope import Envelope, from_headers
from pipeline.errors import Abandoned, AlreadyExists, InvalidParameter, ProviderFailed, SluiceError
from pipeline.kafka.follower import Follower
from pipeline.records import AnswerRecord
from pipeline.worker.admit import CONFIGURATION_WAIT_S
from pipeline.worker.call import Admitted, Caller
from pipeline.worker.finished import FinishedIndex, Mark
from pipeline.worker.out import Out, encoded, fits
from pipeline.worker.ownership import Ownership
from pipeline.worker.pieces import Pieces

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """A request under way. `events` are to be acked when it is finished; `asked_by` are all the envelopes that want the answer."""

    request_id: str
    partition: int
    body_hash: str
    outcome: Outcome
    events: list[Any] = field(default_factory=list)
    asked_by: list[Envelope] = field(default_factory=list)
    work: asyncio.Task[None] | None = None
    abandoned: bool = False


class Serve:
    """`endpoints` follows the configurations; everything that is written goes through `out`."""

    def __init__(self, out: Out, endpoints: Follower[Endpoint], caller: Caller, finished: FinishedIndex, ownership: Ownership) -> None:
        self._out, self._endpoints, self._caller = out, endpoints, caller
        self._finished, self._ownership = finished, ownership
        self._calls: dict[str, Call] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}
        self.draining = False

    async def __call__(self, stream: Any) -> None:
        """The agent's body: it only starts tasks, so no event waits for another."""
        async for event in stream.noack().events():
            if self.draining:
                continue
            task = asyncio.create_task(self._guarded(event))
            self._tasks[task] = event.message.partition
            task.add_done_callback(self._tasks.pop)

    async def cancellations(self, stream: Any) -> None:
        """The body of the agent on gateway.cancellations: end the call of a client that has gone."""
        async for event in stream.noack().events():
            try:
                request_id = orjson.loads(event.value or b"{}").get("request_id")
            except (ValueError, AttributeError):
                request_id = None
            call = self._calls.get(request_id) if isinstance(request_id, str) else None
            # Others may have asked for the same request (an Idempotency-Key): they still want it.
            if call is not None and len(call.asked_by) == 1 and call.work is not None:
                call.abandoned = True
                call.work.cancel()
            event.ack()

    def lose(self, partitions: frozenset[int]) -> None:
        """These partitions are another worker's now: end their calls, write nothing for them."""
        for task, partition in list(self._tasks.items()):
            if partition in partitions:
                task.cancel()

    async def drain(self, timeout_s: float) -> int:
        """Start nothing new and wait for what runs, at most `timeout_s`; returns how many calls are left (others will run them)."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout_s)
        return len(self._tasks)

    async def _guarded(self, event: Any) -> None:
        message = event.message
        try:
            await self._handle(event)
        except asyncio.CancelledError:
            raise
        except Exception:
            # Not acked, so nothing is lost: the watchdog starts the worker anew and the event comes again.
            log.exception("serve could not finish %s[%d]@%d", message.topic, message.partition, message.offset)

    async def _handle(self, event: Any) -> None:
        message = event.message
        envelope = from_headers(message.headers)
        if envelope is None:
            log.error("%s[%d]@%d has no envelope; only admit may write there", message.topic, message.partition, message.offset)
            event.ack()
            return
        # The event's own partition: admit put it where the request id belongs.
        partition = message.partition
        await self._finished.ready(partition)
        if not await self._ownership.settled(partition):
            return
        admitted = Admitted(envelope, event.value or b"")
        body_hash = _hash(admitted)
        call = self._calls.get(envelope.request_id)
        if call is not None:
            await self._join(call, body_hash, envelope, event)
            return
        mark = self._finished.find(partition, envelope.request_id)
        if mark is not None:
            # After a rebalance finished events come again to the worker that answered them.
            if envelope.asker not in mark.answered:
                await self._repeat(partition, mark, body_hash, envelope)
                self._finished.answered(partition, envelope.request_id, envelope.asker)
            event.ack()
            return
        call = Call(envelope.request_id, partition, body_hash, Outcome(), [event], [envelope])
        self._calls[call.request_id] = call
        try:
            await self._work(call, admitted)
        finally:
            del self._calls[call.request_id]

    async def _join(self, call: Call, body_hash: str, envelope: Envelope, event: Any) -> None:
        if body_hash != call.body_hash:
            await self._refuse_repeat(envelope)
            event.ack()
        else:
            # An event that is delivered again after a rebalance asks from the same place: one answer is enough.
            if not any(envelope.asker == other.asker for other in call.asked_by):
                call.asked_by.append(envelope)
            call.events.append(event)

    async def _repeat(self, partition: int, mark: Mark, body_hash: str, envelope: Envelope) -> None:
        if body_hash != mark.body_hash:
            await self._refuse_repeat(envelope)
            return
        answer = await self._finished.answer(partition, mark)
        if answer is None:
            error = SluiceError("this request was finished before, but its answer is no longer kept; send it under a new id")
            answer = AnswerRecord(request_id=envelope.request_id, status_code=error.status_code, body=error.body())
        await (await self._out.answer(envelope, answer))

    async def _refuse_repeat(self, envelope: Envelope) -> None:
        """409: the id is taken. No row, since the row of this id is the first request's."""
        error = AlreadyExists(f"request id '{envelope.request_id}' was used for another request within the last minutes; use a new one")
        answer = answer_record(envelope, Outcome(error=error), self._out.new_id(), self._out.now_ms())
        await (await self._out.answer(envelope, answer))

    async def _work(self, call: Call, admitted: Admitted) -> None:
        envelope = admitted.envelope
        if envelope.revision:
            await self._endpoints.wait_for_revision(envelope.endpoint, envelope.revision, CONFIGURATION_WAIT_S)
        admitted.endpoint = self._endpoints.get(envelope.endpoint, envelope.revision)
        run_id = self._out.new_id()
        pieces = Pieces(self._out, self._ownership, call.partition, envelope, run_id, call.outcome)
        call.work = asyncio.create_task(self._caller.run(admitted, call.outcome, pieces))
        try:
            await call.work
        except asyncio.CancelledError:
            if not call.abandoned:
                call.work.cancel()
                raise
            call.outcome.error = Abandoned("the client closed its connection before the answer")
        finally:
            pieces.cancel()
        await self._finish(call, admitted, run_id, pieces)

    async def _finish(self, call: Call, admitted: Admitted, run_id: str, pieces: Pieces) -> None:
        """Record, then answer, then ack: the order that finished.py relies on."""
        envelope, outcome = admitted.envelope, call.outcome
        now_ms = self._out.now_ms()
        answer = answer_record(envelope, outcome, run_id, now_ms)
        if not fits(encoded(answer)):
            outcome.error = ProviderFailed("the served entity's answer is larger than the gateway passes on")
            answer = answer_record(envelope, outcome, run_id, now_ms)
        record = inference_record(envelope, admitted.request, admitted.endpoint, outcome, run_id, now_ms)
        if not await self._ownership.settled(call.partition):
            return
        written = await (await self._out.record(record, mark=call.body_hash))
        mark = Mark(call.body_hash, written.offset, now_ms / 1000)
        self._finished.add(call.partition, call.request_id, mark)
        for place, asker in enumerate(call.asked_by):
            # Only the first asker has had the pieces.
            end = stream_end(envelope, outcome, run_id, pieces.sequence, now_ms) if place == 0 and pieces.begun else answer
            await (await self._out.answer(asker, end))
        self._finished.add(call.partition, call.request_id, replace(mark, answered=tuple(asker.asker for asker in call.asked_by)))
        for event in call.events:
            event.ack()


def _hash(admitted: Admitted) -> str:
    """What makes two requests under one id the same: user, endpoint, task and body."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        request = admitted.read()
        for part in (admitted.envelope.user, admitted.envelope.endpoint, request.task):
            digest.update(part.encode() + b"\x00")
        digest.update(json_text.canonical(request.body))
    except InvalidParameter:
        digest.update(admitted.value)
    return digest.hexdigest()
