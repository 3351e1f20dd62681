"""The admit agent: gateway.requests -> gateway.admitted, or a refusal. One request at a time per partition, since it counts.

    1. Read the envelope; a plain producer's record has none, so its value is read and one is written.
    2. A record in the wrong partition is forwarded once to the partition where its endpoint is counted, with its first append time.
    3. The endpoint's limits of the configuration that the request carries are judged (core/limits.py), but for a replayed request.
    4. Admitted: the record goes on to `serve`, its value unread. Refused: answer and row are written here.

Bytes that are no request go to gateway.dead-letters, and so does what the gateway itself fails on. Nothing escapes: an event whose
outcome could not be written is not acked, and comes again.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from pydantic import ValidationError

from pipeline import json_text, topics
from pipeline.core.limits import counter_id, judge
from pipeline.core.outcome import Outcome, answer_record, inference_record
from pipeline.endpoints import Endpoint, describe
from pipeline.envelope import Envelope, from_headers
from pipeline.errors import InvalidParameter, NotFound, RateLimited, SluiceError
from pipeline.kafka.follower import Follower
from pipeline.kafka.partitions import partition_of
from pipeline.records import DeadLetter, RequestRecord
from pipeline.worker.guard import Guards
from pipeline.worker.out import Out
from pipeline.worker.ownership import Ownership
from pipeline.worker.windows import LimitWindows

log = logging.getLogger(__name__)
# How long a worker waits for a configuration that a request has seen and it has not.
CONFIGURATION_WAIT_S = 5.0


class GivenUp(Exception):
    """A rebalance began while the event waited: its partition's counters may be another worker's, or are being recovered."""


class Admit:
    """`windows` are the counters, `out` writes to Kafka, `endpoints` follows the configurations, `guards` say what a refused row keeps,
    `ownership` whose the counters are."""

    def __init__(
        self, windows: LimitWindows, out: Out, endpoints: Follower[Endpoint], guards: Guards, ownership: Ownership, deadline_s: float
    ) -> None:  # fmt: skip
        self._windows, self._out, self._endpoints, self._guards, self._ownership = windows, out, endpoints, guards, ownership
        self._deadline_ms = int(deadline_s * 1000)

    async def __call__(self, stream: Any) -> None:
        """The agent's body."""
        async for event in stream.noack().events():
            try:
                await self._handle(event)
            except GivenUp:
                # Not acked: it is delivered again, here or elsewhere.
                continue
            except (KafkaError, ProducerSendError):
                # Not acked, so nothing is lost: the watchdog starts this worker anew and the event comes again.
                log.exception("admit could not write what came of %s", _place(event.message))
                continue
            except Exception as exc:
                # A fault of ours that would meet us again at every delivery: set the record aside and go on.
                log.exception("admit failed on %s", _place(event.message))
                await self._dead_letter(event.message, event.value, f"the gateway failed on it: {type(exc).__name__}")
            event.ack()

    async def _handle(self, event: Any) -> None:
        message = event.message
        value: bytes | None = event.value
        appended_ms = int(message.timestamp * 1000 + 0.5)
        envelope = from_headers(message.headers)
        request: RequestRecord | None = None
        if envelope is None or value is None:
            try:
                request = _read(value)
            except InvalidParameter as exc:
                await self._dead_letter(message, value, exc.message)
                return
            envelope = Envelope(
                request.request_id, request.endpoint, request.user, tuple(request.groups or ()), request.deadline_ms or 0,
                reply_to=request.reply_to or topics.RESPONSES.name,
                reply_partition=-1 if request.reply_partition is None else request.reply_partition,
            )  # fmt: skip
        if not envelope.forwarded:
            envelope = envelope.with_(appended_ms=appended_ms, deadline_ms=envelope.deadline_ms or appended_ms + self._deadline_ms)
            home = partition_of(envelope.endpoint, topics.COUNTED_PARTITIONS)
            if home != message.partition:
                await self._out.request(envelope.with_(forwarded=True), value or b"", home)
                return
        if envelope.reply_to not in self._out.reply_topics:
            allowed = ", ".join(sorted(self._out.reply_topics))
            error: SluiceError = InvalidParameter(
                f"reply_to '{envelope.reply_to}' is not a reply topic of this installation; there are {allowed}"
            )
            await self._refuse(envelope, request, self._endpoints.get(envelope.endpoint), value, error)
            return
        era = self._ownership.era()
        endpoint = await self._endpoint(envelope)
        # Counting on memory that another worker's counts have passed by would set the counters back.
        if not self._ownership.still(era):
            raise GivenUp
        if endpoint is None:
            error = NotFound(f"there is no endpoint '{envelope.endpoint}'; GET /api/2.0/serving-endpoints lists those there are")
            await self._refuse(envelope, request, None, value, error)
            return
        limits = endpoint.ai_gateway.rate_limits
        # A replay has limits of its own, at whoever sends it: it takes nothing of the users'.
        if limits and not envelope.replay_of:
            refusal = self._count(message, envelope, endpoint)
            if isinstance(refusal, RateLimited):
                await self._refuse(envelope.with_(rate_limit=refusal.remaining), request, endpoint, value, refusal)
                return
            envelope = refusal
        await self._out.admitted(envelope, value or b"")

    def _count(self, message: Any, envelope: Envelope, endpoint: Endpoint) -> Envelope | RateLimited:
        limits = endpoint.ai_gateway.rate_limits or []
        windows = self._windows
        windows.at(envelope.appended_ms)
        ids = [counter_id(limit, endpoint.endpoint_id, endpoint.name, envelope.user) for limit in limits]
        verdict = judge(limits, ids, windows.read, offset=message.offset, time_ms=envelope.appended_ms)
        for written, counter in verdict.writes:
            windows.write(written, counter, message.partition)
        windows.prune(message.partition)
        remaining = verdict.remaining.as_dict() if verdict.remaining else None
        if verdict.refused_by is None:
            return envelope.with_(rate_limit=remaining)
        refusal = RateLimited(
            f"endpoint '{endpoint.name}' is over its rate limit of {verdict.refused_by.label}; try again in {verdict.retry_after_s} s, "
            "or have an administrator raise the limit or set limits per user",
            retry_after_s=verdict.retry_after_s,
        )
        refusal.remaining = remaining
        return refusal

    async def _endpoint(self, envelope: Envelope) -> Endpoint | None:
        if envelope.revision and not await self._endpoints.wait_for_revision(envelope.endpoint, envelope.revision, CONFIGURATION_WAIT_S):
            log.warning("endpoint %r at revision %d has not arrived here", envelope.endpoint, envelope.revision)
        return self._endpoints.get(envelope.endpoint, envelope.revision)

    async def _refuse(
        self, envelope: Envelope, request: RequestRecord | None, endpoint: Endpoint | None, value: bytes | None, error: SluiceError
    ) -> None:  # fmt: skip
        if request is None:
            try:
                request = _read(value)
            except InvalidParameter:
                request = None
        run_id, now_ms = self._out.new_id(), self._out.now_ms()
        kept = self._guards.kept_of_refused(endpoint, request.body) if request is not None else None
        outcome = Outcome(request=kept, error=error)
        told = envelope.with_(request_id=envelope.refused_id or envelope.request_id)
        await self._out.record(inference_record(told, request, endpoint, outcome, run_id, now_ms), mark=None)
        await self._out.answer(envelope, answer_record(told, outcome, run_id, now_ms))

    async def _dead_letter(self, message: Any, value: bytes | None, reason: str) -> None:
        letter = DeadLetter(
            reason=reason[:1_000],
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            timestamp_ms=int(message.timestamp * 1000 + 0.5),
            key_base64=base64.b64encode(message.key).decode() if message.key else None,
            value_base64=base64.b64encode(value).decode() if value else None,
        )
        await self._out.dead_letter(letter)


def _read(value: bytes | None) -> RequestRecord:
    """The request that `value` holds; InvalidParameter where it is none."""
    if value is None:
        raise InvalidParameter("the record has no value; a request is a JSON object")
    parsed = json_text.parse_object(value, "the record")
    try:
        return RequestRecord.model_validate(parsed)
    except ValidationError as exc:
        raise InvalidParameter(f"the record is no request: {describe(exc)}") from None


def _place(message: Any) -> str:
    return f"{message.topic}[{message.partition}]@{message.offset}"
