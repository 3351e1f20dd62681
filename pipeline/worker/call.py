"""What happens to one admitted request: guardrails, served entities in order until one answers, guardrails again.

What goes to a served entity, to the caller and into the row is what the guardrails let through, personal data masked where the endpoint
asks for that.

`Caller.run` fills in an Outcome; it writes nothing to Kafka. Every failure becomes an Outcome with an error of the
tree, a bug of ours included (500), so that each request has an answer and a row. Only cancellation leaves it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from pydantic import ValidationError

from pipeline import json_text
from pipeline.core import request_body, routing
from pipeline.core.guardrails import Finding, Rules, said_rules
from pipeline.core.outcome import Outcome
from pipeline.endpoints import Endpoint, ServedEntity, describe
from pipeline.envelope import Envelope
from pipeline.errors import InvalidParameter, NotFound, SluiceError
from pipeline.providers.result import ProviderResult
from pipeline.records import Attempt, RequestRecord
from pipeline.worker.guard import Guards
from pipeline.worker.pieces import Pieces
from pipeline.worker.slots import Slots
from pipeline.worker.streamed import Streamed, StreamingProvider

log = logging.getLogger(__name__)


class Provider(StreamingProvider, Protocol):
    """What calls a served entity: pipeline/providers/client.py."""

    async def call(
        self, entity: ServedEntity, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str
    ) -> ProviderResult: ...  # fmt: skip


@dataclass(slots=True)
class Admitted:
    """One admitted request on its way through `serve`."""

    envelope: Envelope
    value: bytes
    endpoint: Endpoint | None = None
    request: RequestRecord | None = None

    def read(self) -> RequestRecord:
        """The request's value, read once. InvalidParameter where it is none."""
        if self.request is None:
            parsed = json_text.parse_object(self.value, "the record")
            try:
                self.request = RequestRecord.model_validate(parsed)
            except ValidationError as exc:
                raise InvalidParameter(f"the record is no request: {describe(exc)}") from None
        return self.request


class Caller:
    """Runs admitted requests against `provider`.

    `may_call` is called before each call of a served entity, and ends the process where what it would run is another's (watchdog.py).
    """

    def __init__(self, provider: Provider, slots: Slots, guards: Guards, may_call: Callable[[], None]) -> None:
        self._provider, self._slots, self._guards, self._may_call = provider, slots, guards, may_call

    async def run(self, admitted: Admitted, outcome: Outcome, pieces: Pieces) -> None:
        """Fill in `outcome`. It is the caller's, so that what is known so far survives a cancellation. Where the request asks for a
        stream, the answer goes out over `pieces` as it comes."""
        await self._noting_errors(self._run(admitted, outcome, pieces), admitted, outcome)
        if outcome.error is None or pieces.begun:
            # What was let through before something went wrong goes out too.
            await self._noting_errors(pieces.close(), admitted, outcome)

    async def _noting_errors(self, work: Awaitable[None], admitted: Admitted, outcome: Outcome) -> None:
        try:
            await work
        except SluiceError as exc:
            outcome.error = exc
        except Exception:
            log.exception("request %s failed inside the gateway", admitted.envelope.request_id)
            outcome.error = SluiceError("the gateway failed on this request; its log names the request id")

    async def _run(self, admitted: Admitted, outcome: Outcome, pieces: Pieces) -> None:
        envelope, endpoint = admitted.envelope, admitted.endpoint
        request = admitted.read()
        if endpoint is None:
            raise NotFound(f"there is no endpoint '{envelope.endpoint}'; GET /api/2.0/serving-endpoints lists those there are")
        refusal = _refusal(endpoint, request)
        if refusal is not None:
            outcome.request = self._guards.kept_of_refused(endpoint, request.body)
            raise refusal
        before, after = self._guards.rules_of(endpoint)
        body = request.body
        if before:
            finding = await self._guards.check(before, body, "input", partial(_left_s, envelope))
            outcome.request = finding.body
            if not _passes(outcome, finding):
                return
            # None: the endpoint lets pass what could not be checked.
            body = body if finding.body is None else finding.body
        else:
            outcome.request = body
        left_s = partial(_left_s, envelope)
        streamed = Streamed(self._provider, self._guards, after, pieces, left_s) if body.get("stream") is True else None
        async with self._slots.take(endpoint.name, left_s()):
            await self._ask(admitted, endpoint, body, said_rules(before, after), outcome, streamed)
        if streamed is None and after and outcome.body is not None:
            finding = await self._guards.check(after, outcome.body, "output", left_s, outcome.usage)
            outcome.unmasked = finding.body is None
            if _passes(outcome, finding) and finding.body is not None:
                outcome.body = finding.body

    async def _ask(
        self, admitted: Admitted, endpoint: Endpoint, body: dict[str, Any], said: Rules, outcome: Outcome, streamed: Streamed | None
    ) -> None:
        """Ask the served entities in order until one answers. Every attempt is noted in `outcome`, a provider's error as `said` allows.

        Of a stream that has begun, no other entity can tell the rest.
        """
        request = admitted.read()
        entities = routing.order(endpoint.config, endpoint.fallback, request.request_id)
        results: list[ProviderResult] = []
        for place, entity in enumerate(entities):
            left_s = _left_s(admitted.envelope)
            if left_s <= 0:
                break
            timeout_s = routing.attempt_timeout_s(left_s, len(entities) - place)
            result = await self._attempt(entity, request, body, timeout_s, outcome, streamed)
            if said and result.error:
                result = replace(result, error=await self._guards.words(said, result.error, partial(_left_s, admitted.envelope)))
            outcome.attempts[-1].error = result.error
            results.append(result)
            if result.failure is None:
                if streamed is None:
                    outcome.body = result.body
                    outcome.input_tokens, outcome.output_tokens = result.input_tokens, result.output_tokens
                outcome.served_model = result.served_model_name or entity.external_model.name
                return
            if streamed is not None and streamed.pieces.begun:
                raise routing.error_of_broken_stream(result, _left_s(admitted.envelope) <= 0)
            if not routing.goes_on(result.failure):
                break
        raise routing.error_of(results, _left_s(admitted.envelope) <= 0)

    async def _attempt(
        self,
        entity: ServedEntity,
        request: RequestRecord,
        body: dict[str, Any],
        timeout_s: float,
        outcome: Outcome,
        streamed: Streamed | None,
    ) -> ProviderResult:
        outcome.served_entity, outcome.served_model = entity.label, entity.external_model.name
        # Noted before the call, so that a call that is cut off shows too.
        attempt = Attempt(served_entity_name=entity.label, status_code=0, error="unfinished", execution_time_ms=0)
        outcome.attempts.append(attempt)
        self._may_call()
        started_s = time.perf_counter()
        task, request_id = request.task, request.request_id
        if streamed is None:
            result = await self._provider.call(entity, body, task=task, timeout_s=timeout_s, request_id=request_id)
        else:
            result = await streamed.attempt(entity, body, task=task, first_s=timeout_s, request_id=request_id, outcome=outcome)
        attempt.status_code = result.status_code
        attempt.execution_time_ms = int((time.perf_counter() - started_s) * 1000)
        return result


def _refusal(endpoint: Endpoint, request: RequestRecord) -> InvalidParameter | None:
    if request.task != endpoint.config.task:
        return InvalidParameter(f"endpoint '{endpoint.name}' serves task {endpoint.config.task}, not {request.task}")
    try:
        # The ingress has looked already; other programs' requests come straight from the topic.
        request_body.refuse_what_is_not_honoured(request.body)
        request_body.check(request.body, request.task)
    except InvalidParameter as exc:
        return exc
    return None


def _left_s(envelope: Envelope) -> float:
    return envelope.deadline_ms / 1000 - time.time()


def _passes(outcome: Outcome, finding: Finding) -> bool:
    outcome.guardrails.extend(finding.runs)
    outcome.assessments.extend(finding.assessments)
    outcome.error = finding.error
    return finding.error is None
