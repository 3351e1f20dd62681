"""Runs an endpoint's guardrails in the worker: core/guardrails.py says what is to be done, this module where.

    keywords, topics, personal data of the default set,    on the event loop up to INLINE_CHARACTERS, beyond in a process of its own
    safety by the embedded engine
    names, places and other entities                       pipeline/ner, in processes with a language model
    safety by another engine                               pipeline/safety, over the network

Nothing waits longer than the request's deadline or `timeout_s`, whichever comes first. An engine that raises, dies, hangs or is not there
becomes EngineFailed in the examination, which stops the request unless its endpoint says otherwise. Logs name the engine and the kind of
failure, never the text.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from pipeline.children import ChildUnavailable
from pipeline.core.guardrails import (
    Direction,
    EngineFailed,
    Finding,
    FindPersonalData,
    JudgeSafety,
    Rules,
    Work,
    compile_rules,
    done_here,
    examine,
    masked_here,
    size,
)  # fmt: skip
from pipeline.core.pii import resolved
from pipeline.endpoints import Endpoint
from pipeline.ner import NerPool
from pipeline.safety import SafetyEngine, SafetyUnavailable
from pipeline.worker.long_texts import LongTexts

log = logging.getLogger(__name__)
T = TypeVar("T")
# The longest text that is looked through on the loop: some milliseconds.
INLINE_CHARACTERS = 16_000
# Of a refused request that is longer, the row keeps no text: refusals must stay cheap, most of all where there are many.
REFUSED_CHARACTERS = 8_000
NOTHING = Rules()


class Guards:
    """Guardrails of all endpoints. `safety` None: the embedded engine. Compiled rules are kept for each configuration."""

    KEPT_RULES = 1_024

    def __init__(self, safety: SafetyEngine | None, ner: NerPool, long_texts: LongTexts, timeout_s: float) -> None:
        self._safety, self._ner, self._long_texts, self._timeout_s = safety, ner, long_texts, timeout_s
        self._rules: dict[tuple[str, int], tuple[Rules, Rules]] = {}

    def prepare(self) -> None:
        """Read what is read at the first use (some tenths of a second), before anybody waits for it."""
        if self._safety is None:
            done_here(JudgeSafety(("",)))

    def rules_of(self, endpoint: Endpoint) -> tuple[Rules, Rules]:
        """What is forbidden in the endpoint's requests, and in its answers."""
        configured = endpoint.ai_gateway.guardrails
        if configured is None:
            return NOTHING, NOTHING
        key = endpoint.name, endpoint.revision
        rules = self._rules.get(key)
        if rules is None:
            if len(self._rules) >= self.KEPT_RULES:
                self._rules.clear()
            rules = compile_rules(configured.input), compile_rules(configured.output)
            self._rules[key] = rules
        return rules

    def kept_of_refused(self, endpoint: Endpoint | None, body: dict[str, Any]) -> dict[str, Any] | None:
        """What the row of a request that is refused before its guardrails ran may keep of it; None: nothing."""
        if endpoint is None:
            return None
        try:
            return masked_here(self.rules_of(endpoint)[0], body, REFUSED_CHARACTERS)
        except Exception as exc:  # a refusal needs an answer and a row, with the text or without
            log.warning("a refused request could not be masked: %s", type(exc).__name__)
            return None

    async def check(
        self, rules: Rules, body: dict[str, Any], direction: Direction, left_s: Callable[[], float], usage: dict[str, int] | None = None
    ) -> Finding:
        """Run `rules` over `body`; `left_s` says how long the request may still take."""
        return await self.drive(examine(rules, body, direction, time.perf_counter, usage), direction, left_s)

    async def drive(self, steps: Generator[Work, Any, T], direction: Direction, left_s: Callable[[], float]) -> T:
        """Do the work that an examination asks for, until it says what it came to; what an engine fails on becomes EngineFailed in it."""
        try:
            work = next(steps)
            while True:
                try:
                    result = await self._done(work, min(left_s(), self._timeout_s))
                except Exception as exc:  # an engine's failure of any kind must block, never pass
                    # Of other exceptions only the kind is told: their texts may hold what was looked at.
                    failure = EngineFailed(str(exc) if isinstance(exc, ChildUnavailable | SafetyUnavailable) else type(exc).__name__)
                    log.warning("%s of an %s failed: %s", type(work).__name__, direction, failure)
                    work = steps.throw(failure)
                else:
                    work = steps.send(result)
        except StopIteration as end:
            came_to: T = end.value
            return came_to

    async def words(self, rules: Rules, said: str, left_s: Callable[[], float]) -> str:
        """What may be told of a provider's error message."""
        finding = await self.check(rules, {"choices": [{"message": {"content": said}}]}, "output", left_s)
        if finding.error is not None or finding.body is None:
            return "the provider's words are withheld, since the endpoint's guardrails don't let them pass"
        return str(finding.body["choices"][0]["message"]["content"])

    async def _done(self, work: Work, timeout_s: float) -> Any:
        if isinstance(work, JudgeSafety) and self._safety is not None:
            return await self._safety.judge(work.texts, timeout_s=timeout_s)
        found = done_here(work) if size(work) <= INLINE_CHARACTERS else await self._long_texts.do(work, timeout_s=timeout_s)
        if isinstance(work, FindPersonalData) and work.by_model:
            found += await self._ner.find(work.texts, work.by_model, work.threshold, timeout_s=timeout_s)
            return resolved(found)
        return found
