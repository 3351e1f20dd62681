"""What happens to one admitted request: guardrails, served entities in order until one answers, guardrails again.

`Caller.run` fills in an Outcome; it writes nothing to Kafka. Every failure becomes an Outcome with an error of the
tree, a bug of ours included (500), so that each request has an answer and a row. Only cancellation leaves it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from pipeline import json_text
from pipeline.core import guardrails, routing
from pipeline.core.outcome import Outcome
from pipeline.endpoints import Endpoint, ServedEntity, describe
from pipeline.envelope import Envelope
from pipeline.errors import InvalidParameter, NotFound, SluiceError
from pipeline.providers.result import ProviderResult
from pipeline.records import Attempt, RequestRecord
from pipeline.worker.slots import Slots

log = logging.getLogger(__name__)


class Provider(Protocol):
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


Rules = tuple[guardrails.Rule, ...]


class Caller:
    """Runs admitted requests against `provider`. Compiled guardrails are kept for each configuration."""

    KEPT_RULES = 1_024

    def __init__(self, provider: Provider, slots: Slots) -> None:
        self._provider, self._slots = provider, slots
        self._rules: dict[tuple[str, int], tuple[Rules, Rules]] = {}

    async def run(self, admitted: Admitted, outcome: Outcome) -> None:
        """Fill in `outcome`. It is the caller's, so that what is known so far survives a cancellation."""
        try:
            await self._run(admitted, outcome)
        except SluiceError as exc:
            outcome.error = exc
        except Exception:
            log.exception("request %s failed inside the gateway", admitted.envelope.request_id)
            outcome.error = SluiceError("the gateway failed on this request; its log names the request id")

    async def _run(self, admitted: Admitted, outcome: Outcome) -> None:
        envelope, endpoint = admitted.envelope, admitted.endpoint
        request = admitted.read()
        if endpoint is None:
            raise NotFound(f"there is no endpoint '{envelope.endpoint}'; GET /api/2.0/serving-endpoints lists those there are")
        if request.task != endpoint.config.task:
            raise InvalidParameter(f"endpoint '{endpoint.name}' serves task {endpoint.config.task}, not {request.task}")
        if request.body.get("stream"):
            raise InvalidParameter("streaming is not available in this version; leave 'stream' out")
        before, after = self._rules_of(endpoint)
        if before and not _passes(outcome, guardrails.check(before, request.body, "input", time.perf_counter)):
            return
        async with self._slots.take(endpoint.name, _left_s(envelope)):
            await self._ask(admitted, endpoint, request, outcome)
        if after and outcome.body is not None:
            usage = {"prompt_tokens": outcome.input_tokens, "completion_tokens": outcome.output_tokens,
                     "total_tokens": outcome.input_tokens + outcome.output_tokens}  # fmt: skip
            _passes(outcome, guardrails.check(after, outcome.body, "output", time.perf_counter, usage))

    async def _ask(self, admitted: Admitted, endpoint: Endpoint, request: RequestRecord, outcome: Outcome) -> None:
        """Ask the served entities in order until one answers. Every attempt is noted in `outcome`."""
        entities = routing.order(endpoint.config, endpoint.fallback, request.request_id)
        results: list[ProviderResult] = []
        for place, entity in enumerate(entities):
            left_s = _left_s(admitted.envelope)
            if left_s <= 0:
                break
            result = await self._attempt(entity, request, routing.attempt_timeout_s(left_s, len(entities) - place), outcome)
            results.append(result)
            if result.failure is None:
                outcome.body = result.body
                outcome.input_tokens, outcome.output_tokens = result.input_tokens, result.output_tokens
                outcome.served_model = result.served_model_name or entity.external_model.name
                return
            if not routing.goes_on(result.failure):
                break
        raise routing.error_of(results, _left_s(admitted.envelope) <= 0)

    async def _attempt(self, entity: ServedEntity, request: RequestRecord, timeout_s: float, outcome: Outcome) -> ProviderResult:
        outcome.served_entity, outcome.served_model = entity.label, entity.external_model.name
        # Noted before the call, so that a call that is cut off shows too.
        attempt = Attempt(served_entity_name=entity.label, status_code=0, error="unfinished", execution_time_ms=0)
        outcome.attempts.append(attempt)
        started_s = time.perf_counter()
        result = await self._provider.call(entity, request.body, task=request.task, timeout_s=timeout_s, request_id=request.request_id)
        attempt.status_code, attempt.error = result.status_code, result.error
        attempt.execution_time_ms = int((time.perf_counter() - started_s) * 1000)
        return result

    def _rules_of(self, endpoint: Endpoint) -> tuple[Rules, Rules]:
        configured = endpoint.ai_gateway.guardrails
        if configured is None:
            return (), ()
        key = endpoint.name, endpoint.revision
        rules = self._rules.get(key)
        if rules is None:
            if len(self._rules) >= self.KEPT_RULES:
                self._rules.clear()
            rules = guardrails.compile_rules(configured.input), guardrails.compile_rules(configured.output)
            self._rules[key] = rules
        return rules


def _left_s(envelope: Envelope) -> float:
    return envelope.deadline_ms / 1000 - time.time()


def _passes(outcome: Outcome, finding: guardrails.Finding) -> bool:
    outcome.guardrails.extend(finding.runs)
    outcome.assessments.extend(finding.assessments)
    outcome.error = finding.error
    return finding.error is None
