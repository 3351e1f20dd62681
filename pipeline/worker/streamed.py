"""One attempt at a streamed answer: the served entity's chunks, through the output guardrails, to the pieces that go out.

Until the entity has said something it has `first_s`, so that one that hangs leaves time for the next; after that it may take all that is
left of the deadline. What the guardrails let through is put together for the row at the same time. A guardrail that blocks ends the call
of the entity, and raises what the caller of the gateway gets. Tokens are the provider's own count, or the documented estimate of what it
has sent, also where the call is cut off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from pipeline.core.guarded_stream import StreamExamination
from pipeline.core.guardrails import Rules
from pipeline.core.outcome import Outcome
from pipeline.core.texts import answer_texts, characters
from pipeline.core.together import Together, says_something
from pipeline.endpoints import ServedEntity
from pipeline.providers.result import Failure, ProviderResult
from pipeline.providers.wire import estimated_input_tokens
from pipeline.worker.guard import Guards
from pipeline.worker.pieces import Pieces


class StreamingProvider(Protocol):
    """What calls a served entity for a stream: pipeline/providers/client.py."""

    def stream(
        self, entity: ServedEntity, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str
    ) -> AsyncGenerator[dict[str, Any] | ProviderResult, None]: ...  # fmt: skip


class Streamed:
    """Attempts at streamed answers; `left_s` says how long the request may still take."""

    def __init__(self, provider: StreamingProvider, guards: Guards, rules: Rules, pieces: Pieces, left_s: Callable[[], float]) -> None:
        self._provider, self._guards, self._rules, self.pieces, self._left_s = provider, guards, rules, pieces, left_s

    async def attempt(
        self, entity: ServedEntity, body: dict[str, Any], *, task: str, first_s: float, request_id: str, outcome: Outcome
    ) -> ProviderResult:
        """What `entity` came to. On success `outcome` has the body; a failure may come after pieces have gone out."""
        examination = StreamExamination(self._rules, time.perf_counter) if self._rules else None
        together = Together()
        said = 0
        result: ProviderResult | None = None

        async def release(chunks: list[dict[str, Any]]) -> None:
            for chunk in chunks:
                together.add(chunk)
                await self.pieces.put(chunk)
            if examination is not None and examination.error is not None:
                raise examination.error

        try:
            async with aclosing(self._provider.stream(entity, body, task=task, timeout_s=self._left_s(), request_id=request_id)) as chunks:
                first = asyncio.timeout(first_s)
                try:
                    async with first:
                        async for item in chunks:
                            if isinstance(item, ProviderResult):
                                result = item
                                break
                            said += characters(answer_texts(item))
                            if first.when() is not None and says_something(item):
                                first.reschedule(None)
                            await release([item] if examination is None else await self._drive(examination.feed(item)))
                except TimeoutError:
                    result = _late(entity, first_s)
            result = result or _late(entity, first_s)
            if result.failure is None:
                if examination is not None:
                    await release(await self._drive(examination.finish()))
                outcome.input_tokens, outcome.output_tokens = result.input_tokens, result.output_tokens
                outcome.body = together.body(outcome.usage)
            return result
        finally:
            if result is not None and result.failure is not None and not self.pieces.begun:
                self.pieces.forget()
            else:
                if result is None or result.failure is not None:
                    outcome.input_tokens, outcome.output_tokens = estimated_input_tokens(body), (said + 1) // 4
                if examination is not None:
                    outcome.guardrails.extend(examination.runs)
                    outcome.assessments.extend(examination.assessments)
                    outcome.unmasked = any(r.assessment_type == "PII" and r.result == "UNCHECKED" for r in examination.runs)

    async def _drive(self, steps: Any) -> list[dict[str, Any]]:
        return await self._guards.drive(steps, "output", self._left_s)


def _late(entity: ServedEntity, first_s: float) -> ProviderResult:
    return ProviderResult(0, failure=Failure.PROVIDER, error=f"served entity '{entity.label}' did not answer within {first_s:.3g} s")
