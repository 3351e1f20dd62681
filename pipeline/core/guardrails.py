"""Guardrails: what an endpoint forbids, looked for in all text of a request or an answer.

    1. `compile_rules` turns an endpoint's guardrail parameters for one direction into rules, once per configuration.
    2. `check` runs them over a body and returns a Finding: what ran, what was found, and whether it is blocked.

Fails closed: a guardrail that is configured but has no engine here, or whose engine raises, blocks, and the assessment names the
cause. Assessments never hold the offending text. Pure but for the stopwatch, which the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.core.keywords import KeywordMatcher
from pipeline.core.texts import answer_texts, request_texts
from pipeline.endpoints import GuardrailParameters
from pipeline.errors import GuardrailBlocked, SluiceError, Unavailable
from pipeline.json_text import dump_text
from pipeline.records import Assessment, GuardrailRun

Search = Callable[[Iterator[str]], dict[str, Any] | None]


class EngineMissing(Exception):
    """A guardrail is configured that this installation has no engine for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One guardrail of one direction: `search` returns the assessment's details where it found something, else None."""

    assessment_type: str
    search: Search


@dataclass(frozen=True, slots=True)
class Finding:
    """What the guardrails of one direction said. `error` None: it may pass."""

    runs: tuple[GuardrailRun, ...] = ()
    assessments: tuple[Assessment, ...] = ()
    error: SluiceError | None = None


def compile_rules(parameters: GuardrailParameters | None) -> tuple[Rule, ...]:
    """The rules of one direction; empty where nothing is configured."""
    if parameters is None:
        return ()
    rules = []
    if parameters.invalid_keywords:
        rules.append(Rule("KEYWORD", _keyword_search(KeywordMatcher(parameters.invalid_keywords))))
    if parameters.valid_topics:
        rules.append(Rule("TOPIC", _no_engine("valid_topics")))
    if parameters.pii is not None and parameters.pii.behavior != "NONE":
        rules.append(Rule("PII", _no_engine(f"pii behavior {parameters.pii.behavior}")))
    if parameters.safety:
        rules.append(Rule("SAFETY", _no_engine("safety")))
    return tuple(rules)


def _keyword_search(matcher: KeywordMatcher) -> Search:
    def search(texts: Iterator[str]) -> dict[str, Any] | None:
        # Joined by a character that is no word, so that no keyword arises from two texts that only stand side by side.
        counts = matcher.find("\u241e".join(texts))
        # The keywords are configuration, not the caller's text, so their number and count may be told; the text itself is not.
        return {"keywords": counts, "count": sum(counts.values())} if counts else None

    return search


def _no_engine(what: str) -> Search:
    def search(texts: Iterator[str]) -> dict[str, Any] | None:
        raise EngineMissing(f"{what} is configured, but this installation has no engine for it")

    return search


def check(
    rules: tuple[Rule, ...], body: dict[str, Any], direction: str, clock_s: Callable[[], float], usage: dict[str, int] | None = None
) -> Finding:  # fmt: skip
    """Run `rules` over `body` (a request for direction `input`, an answer for `output`), stopping at the first that blocks.

    `usage` are the tokens that the block's message reports: none were used where the input was blocked.
    """
    runs: list[GuardrailRun] = []
    for rule in rules:
        texts = request_texts(body) if direction == "input" else answer_texts(body)
        started_s = clock_s()
        try:
            details, cause = rule.search(texts), None
        except Exception as exc:  # an engine's failure of any kind must block, never pass
            details, cause = None, f"{type(exc).__name__}: {exc}" if isinstance(exc, EngineMissing) else type(exc).__name__
        duration_ms = round((clock_s() - started_s) * 1000, 3)
        blocked = details is not None or cause is not None
        kind: Any = rule.assessment_type
        side: Any = direction
        runs.append(GuardrailRun(assessment_type=kind, direction=side, result="BLOCKED" if blocked else "PASSED", duration_ms=duration_ms))
        if blocked:
            told = details if details is not None else {"error": cause}
            found = Assessment(assessment_type=kind, assessment_result="BLOCKED", assessment_details=dump_text(told), direction=side)
            error = _blocked(direction, rule.assessment_type, usage) if cause is None else _unavailable(rule.assessment_type, cause)
            return Finding(tuple(runs), (found,), error)
    return Finding(tuple(runs))


def _blocked(direction: str, assessment_type: str, usage: dict[str, int] | None) -> GuardrailBlocked:
    """The 400 whose message is JSON text, as databricks-api.md describes it."""
    verdict = {
        "flagged": assessment_type == "SAFETY",
        "categories": None,
        "category_scores": None,
        "pii_detection": assessment_type == "PII",
        "invalid_keywords": assessment_type == "KEYWORD",
    }
    message = {
        "usage": usage or {"prompt_tokens": 0, "total_tokens": 0},
        f"{direction}_guardrail": [verdict],
        "finishReason": f"{direction}_guardrail_triggered",
    }
    return GuardrailBlocked(dump_text(message))


def _unavailable(assessment_type: str, cause: str) -> Unavailable:
    return Unavailable(f"the {assessment_type} guardrail could not check this text, so it was stopped ({cause})", retry_after_s=5)
