"""The served entities: each call takes a while and comes to something, and every call is noted.

The answer names the request, what it asked and the number of the call, so that two runs never look alike and an answer can be told to
belong to its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from pipeline.providers.result import Failure, ProviderResult


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call: `finished_before` tells whether the request's record was in the log when the call began."""

    number: int
    request_id: str
    process: str
    at_s: float
    finished_before: bool


class Provider:
    """What a process' Caller calls; `calls` is shared by all processes."""

    def __init__(self, process: Any, calls: list[ProviderCall], finished: set[str]) -> None:
        self._process, self._calls, self._finished = process, calls, finished

    def _begin(self, request_id: str) -> int:
        process = self._process
        number = len(self._calls)
        self._calls.append(ProviderCall(number, request_id, process.name, process.world.now_s, request_id in self._finished))
        process.world.tell(f"{process.name}: provider call {number} for {request_id}")
        return number

    def _takes_s(self, timeout_s: float) -> tuple[float, bool]:
        chance = self._process.random
        takes_s = chance.choice((0.01, 0.1, 0.5, 2.0, 6.0)) * (0.5 + chance.random())
        return min(takes_s, timeout_s), takes_s >= timeout_s

    async def call(self, entity: Any, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str) -> ProviderResult:
        """One whole answer, or one of the ways to fail."""
        number = self._begin(request_id)
        takes_s, late = self._takes_s(timeout_s)
        await asyncio.sleep(takes_s)
        draw = self._process.random.random()
        if late:
            return ProviderResult(0, failure=Failure.PROVIDER, error="timed out")
        if draw < 0.1:
            return ProviderResult(503, failure=Failure.PROVIDER, error="busy")
        if draw < 0.15:
            return ProviderResult(429, failure=Failure.RATE_LIMITED, error="slow down", retry_after_s=1)
        if draw < 0.18:
            return ProviderResult(400, failure=Failure.CLIENT, error=f"call {number} does not like {request_id}")
        said = f"{request_id}|{body['messages'][0]['content']}|call {number}"
        answer = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]}
        return ProviderResult(200, answer, input_tokens=1, output_tokens=1, served_model_name="m")

    async def stream(
        self, entity: Any, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str
    ) -> AsyncGenerator[dict[str, Any] | ProviderResult, None]:  # fmt: skip
        """The same in pieces; it may break off after some."""
        number = self._begin(request_id)
        said = [f"{request_id}|", f"{body['messages'][0]['content']}|", "call ", str(number)]
        breaks_at = self._process.random.choice((99, 99, 99, 0, 2))
        for place, text in enumerate(said):
            takes_s, late = self._takes_s(timeout_s)
            await asyncio.sleep(takes_s / 4)
            if late or place == breaks_at:
                yield ProviderResult(0, failure=Failure.PROVIDER, error="broke off")
                return
            yield {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
        yield {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield ProviderResult(200, input_tokens=1, output_tokens=1, served_model_name="m")
