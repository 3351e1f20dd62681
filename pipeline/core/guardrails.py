"""Guardrails: what an endpoint forbids, looked for in all text of a request or an answer.

    rules = compile_rules(parameters)                          once for each configuration and direction
    steps = examine(rules, body, "input", clock_s)             a generator: yields Work, takes what came of it
    finding = ...                                              what it returns: what ran, what was found, and how it goes on

Whoever drives the generator decides where the work is done: `done_here` does it on the spot, the worker (pipeline/worker/guard.py) may
hand it to a process or over the network, jobs/backtest.py does it on Spark. One piece of code decides in the stream and over history.

Personal data comes first: the copy in which it is masked is what the row keeps, whatever else is found. Keywords and topics are looked for
in the text as it came, safety is judged on the masked copy, which may be sent to another service.

Fails closed: where an engine fails, the driver throws EngineFailed into the generator, and the request is stopped (503) unless the
endpoint says `on_error: "allow"`. Text whose personal data could not be looked for is kept in no row. Assessments never hold the
offending text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from pipeline.core.keywords import KeywordMatcher
from pipeline.core.pii import DEFAULT_THRESHOLD, PiiSpan, count_entities, detect, mask
from pipeline.core.pii_entities import DEFAULT_ENTITIES
from pipeline.core.safety import SafetyVerdict, judge_texts
from pipeline.core.texts import BodyTexts, said_by_user, texts_of_answer, texts_of_request
from pipeline.core.topics import TopicMatcher
from pipeline.endpoints import GuardrailParameters
from pipeline.errors import GuardrailBlocked, SluiceError, Unavailable
from pipeline.json_text import dump_text
from pipeline.records import Assessment, GuardrailRun

Direction = Literal["input", "output"]
Kind = Literal["KEYWORD", "PII", "SAFETY", "TOPIC"]
Result = Literal["PASSED", "BLOCKED", "MASKED"]
# Stands between two texts, so that no keyword arises from texts that only lie side by side: a word of its own, in no keyword.
_APART = "\nqxapartxq\n"


class EngineFailed(Exception):
    """A guardrail's engine could not do its work; the text says why, without the text that was to be checked."""


@dataclass(frozen=True)
class Words:
    """A list of keywords or topics, compared by its digest: ten thousand of them are hashed once."""

    given: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """The list's identity."""
        return hashlib.blake2b(dump_text(self.given).encode(), digest_size=16).hexdigest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words) and self.digest == other.digest


@dataclass(frozen=True, slots=True)
class FindKeywords:
    """Comes to the keywords found, with how often."""

    words: Words
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindTopic:
    """Comes to the topic that the user's messages are on, or None."""

    words: Words
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindPersonalData:
    """Comes to spans of `entities` in `texts`, which are read in the orders of `sequences`."""

    entities: frozenset[str]
    threshold: float
    texts: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...]

    @property
    def by_model(self) -> frozenset[str]:
        """Those of the entities that `done_here` does not find (pipeline/ner)."""
        return self.entities - DEFAULT_ENTITIES


@dataclass(frozen=True, slots=True)
class JudgeSafety:
    """Comes to a SafetyVerdict on all texts."""

    texts: tuple[str, ...]


Work = FindKeywords | FindTopic | FindPersonalData | JudgeSafety
Steps = Generator[Work, Any, "Finding"]


def size(work: Work) -> int:
    """How many characters there are to look at."""
    return sum(map(len, work.texts))


@lru_cache(maxsize=256)
def keyword_matcher(words: Words) -> KeywordMatcher:
    """The compiled list, the same object for the same words."""
    return KeywordMatcher(words.given)


@lru_cache(maxsize=256)
def _topics(words: Words) -> TopicMatcher:
    return TopicMatcher(words.given)


def done_here(work: Work) -> Any:
    """Do it now, with the engines that need nothing but their arguments: of personal data the default set is found, safety is judged by
    the embedded engine."""
    match work:
        case FindKeywords():
            return keyword_matcher(work.words).find(_APART.join(work.texts))
        case FindTopic():
            return _topics(work.words).topic_of(work.texts)
        case FindPersonalData():
            return detect(work.texts, work.entities & DEFAULT_ENTITIES, work.threshold, work.sequences)
        case JudgeSafety():
            return judge_texts(work.texts)


@dataclass(frozen=True, slots=True)
class Rules:
    """What one direction of an endpoint forbids."""

    keywords: Words | None = None
    topics: Words | None = None
    pii: Literal["BLOCK", "MASK"] | None = None
    entities: frozenset[str] = frozenset()
    threshold: float = DEFAULT_THRESHOLD
    safety: bool = False
    lets_pass: bool = False

    def __bool__(self) -> bool:
        return bool(self.keywords or self.topics or self.pii or self.safety)


def compile_rules(parameters: GuardrailParameters | None) -> Rules:
    """The rules of one direction; false where nothing is configured."""
    if parameters is None:
        return Rules()
    pii = parameters.pii if parameters.pii is not None and parameters.pii.behavior != "NONE" else None
    return Rules(
        Words(tuple(parameters.invalid_keywords)) if parameters.invalid_keywords else None,
        Words(tuple(parameters.valid_topics)) if parameters.valid_topics else None,
        "BLOCK" if pii and pii.behavior == "BLOCK" else "MASK" if pii else None,
        pii.wanted if pii else frozenset(),
        DEFAULT_THRESHOLD if pii is None or pii.threshold is None else pii.threshold,
        parameters.safety,
        parameters.on_error == "allow",
    )


def said_rules(before: Rules, after: Rules) -> Rules:
    """What holds for a provider's error message: the answer's rules, and personal data of the request, which it may repeat, is masked."""
    guarded = [rules for rules in (before, after) if rules.pii]
    return Rules(
        keywords=after.keywords,
        pii="MASK" if guarded else None,
        entities=frozenset().union(*(rules.entities for rules in guarded)),
        threshold=min((rules.threshold for rules in guarded), default=DEFAULT_THRESHOLD),
        safety=after.safety,
    )


def each(rules: Rules) -> Iterator[tuple[str, Rules]]:
    """Each guardrail of `rules` alone, by its assessment type. Where its engine fails, it says UNCHECKED."""
    if rules.pii is not None:
        yield "PII", Rules(pii=rules.pii, entities=rules.entities, threshold=rules.threshold, lets_pass=True)
    if rules.keywords is not None:
        yield "KEYWORD", Rules(keywords=rules.keywords, lets_pass=True)
    if rules.topics is not None:
        yield "TOPIC", Rules(topics=rules.topics, lets_pass=True)
    if rules.safety:
        yield "SAFETY", Rules(safety=True, lets_pass=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the guardrails of one direction said. `error` None: it may pass.

    `body` is what goes on, and what the row keeps: the body with personal data masked where that is configured. None: it could not be
    looked for, so no row may keep the text.
    """

    body: dict[str, Any] | None
    runs: tuple[GuardrailRun, ...] = ()
    assessments: tuple[Assessment, ...] = ()
    error: SluiceError | None = None


class _Examination:
    """One direction of one request on its way through its guardrails."""

    def __init__(
        self, rules: Rules, body: dict[str, Any], direction: Direction, clock_s: Callable[[], float], usage: dict[str, int] | None
    ) -> None:
        self._rules, self._direction, self._clock_s, self._usage = rules, direction, clock_s, usage
        self.body: dict[str, Any] | None = body
        self.runs: list[GuardrailRun] = []
        self.assessments: list[Assessment] = []
        self.error: SluiceError | None = None

    def run(self, kind: Kind, work: Work, judge: Callable[[Any], tuple[Result, dict[str, Any]]]) -> Generator[Work, Any, bool]:
        """One guardrail. `judge` turns what came of the work into a result and the assessment's details. Whether it could be checked."""
        started_s = self._clock_s()
        cause = None
        result: Any
        try:
            result, details = judge((yield work))
        except EngineFailed as exc:
            cause = str(exc)
            result, details = ("UNCHECKED", {}) if self._rules.lets_pass else ("BLOCKED", {"error": cause})
        duration_ms = round((self._clock_s() - started_s) * 1000, 3)
        self.runs.append(GuardrailRun(assessment_type=kind, direction=self._direction, result=result, duration_ms=duration_ms))
        if result in ("BLOCKED", "MASKED"):
            told = dump_text(details)
            self.assessments.append(
                Assessment(assessment_type=kind, assessment_result=result, assessment_details=told, direction=self._direction)
            )
        if result == "BLOCKED":
            self.error = self._blocked(kind, details) if cause is None else unavailable(kind, cause)
        return cause is None

    def _blocked(self, kind: Kind, details: dict[str, Any]) -> GuardrailBlocked:
        told = kind == "PII" and self._direction == "input" and self.body is not None
        return blocked(kind, details, self._direction, self._usage, _messages(self.body or {}) if told else None)


def blocked(
    kind: Kind,
    details: dict[str, Any],
    direction: Direction,
    usage: dict[str, int] | None = None,
    anonymized: list[dict[str, Any]] | None = None,
) -> GuardrailBlocked:
    """The 400 whose message is JSON text, as databricks-api.md describes it. `anonymized`: a request's messages, masked."""
    verdict: dict[str, Any] = {
        "flagged": kind == "SAFETY",
        "categories": details.get("categories") if kind == "SAFETY" else None,
        "category_scores": details.get("category_scores") if kind == "SAFETY" else None,
        "pii_detection": kind == "PII",
        "invalid_keywords": kind == "KEYWORD",
        "off_topic": kind == "TOPIC",
    }
    if anonymized is not None:
        verdict["anonymized_input"] = anonymized
    message = {
        "usage": usage or {"prompt_tokens": 0, "total_tokens": 0},
        f"{direction}_guardrail": [verdict],
        "finishReason": f"{direction}_guardrail_triggered",
    }
    return GuardrailBlocked(dump_text(message))


def unavailable(kind: Kind, cause: str) -> Unavailable:
    """The 503 of what could not be checked."""
    return Unavailable(f"the {kind} guardrail could not check this text, so it was stopped ({cause})", retry_after_s=5)


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A request's messages, or its prompts as the user's."""
    messages = body.get("messages")
    if isinstance(messages, list):
        return [{"role": m.get("role"), "content": m.get("content")} for m in messages if isinstance(m, dict)]
    return [{"role": "user", "content": text} for text in said_by_user(body)]


def examine(
    rules: Rules, body: dict[str, Any], direction: Direction, clock_s: Callable[[], float], usage: dict[str, int] | None = None
) -> Steps:
    """Examine `body` (a request for `input`, an answer for `output`), stopping at the first guardrail that blocks.

    `usage` are the tokens that a block's message reports: none were used where the input was blocked. `clock_s` is a stopwatch.
    """
    texts = texts_of_request(body) if direction == "input" else texts_of_answer(body)
    examination = _Examination(rules, body, direction, clock_s, usage)
    masked = texts.texts
    if rules.pii is not None:
        masked = yield from _personal_data(rules, texts, examination)
    if rules.keywords is not None and examination.error is None:
        looked_at = (*texts.texts, *("".join(texts.texts[n] for n in part) for part in texts.parts))
        yield from examination.run("KEYWORD", FindKeywords(rules.keywords, looked_at), judge_keywords)
    if rules.topics is not None and direction == "input" and examination.error is None:
        yield from examination.run("TOPIC", FindTopic(rules.topics, tuple(said_by_user(body))), _judge_topic)
    if rules.safety and examination.error is None:
        yield from examination.run("SAFETY", JudgeSafety(masked), judge_safety)
    return Finding(examination.body, tuple(examination.runs), tuple(examination.assessments), examination.error)


def _personal_data(rules: Rules, texts: BodyTexts, examination: _Examination) -> Generator[Work, Any, tuple[str, ...]]:
    """The PII guardrail; returns the texts with personal data masked, as they came where it could not be looked for."""
    masked = texts.texts

    def judge(spans: Sequence[PiiSpan]) -> tuple[Result, dict[str, Any]]:
        nonlocal masked
        if not spans:
            return "PASSED", {}
        masked = tuple(mask(texts.texts, spans))
        examination.body = texts.replaced(masked)
        return "BLOCKED" if rules.pii == "BLOCK" else "MASKED", {"entities": count_entities(spans)}

    work = FindPersonalData(rules.entities, rules.threshold, texts.texts, texts.sequences)
    if not (yield from examination.run("PII", work, judge)):
        examination.body = None
    return masked


def judge_keywords(found: dict[str, int]) -> tuple[Result, dict[str, Any]]:
    """Result and details of the keywords found."""
    # The keywords are configuration, not the caller's text, so which they are and how many may be told.
    return ("BLOCKED", {"keywords": found, "count": sum(found.values())}) if found else ("PASSED", {})


def _judge_topic(topic: str | None) -> tuple[Result, dict[str, Any]]:
    return ("PASSED", {}) if topic is not None else ("BLOCKED", {"topic": None})


def judge_safety(verdict: SafetyVerdict) -> tuple[Result, dict[str, Any]]:
    """Result and details of a verdict."""
    if not verdict.flagged:
        return "PASSED", {}
    return "BLOCKED", {"categories": verdict.categories, "category_scores": {c: round(s, 3) for c, s in verdict.scores.items()}}


def driven(steps: Steps, do: Callable[[Work], Any] = done_here) -> Finding:
    """Drive an examination to its end on the spot; whatever `do` raises is an engine's failure."""
    try:
        work = next(steps)
        while True:
            try:
                result = do(work)
            except Exception as exc:  # an engine's failure of any kind must block, never pass
                work = steps.throw(EngineFailed(str(exc) if isinstance(exc, EngineFailed) else type(exc).__name__))
            else:
                work = steps.send(result)
    except StopIteration as end:
        finding: Finding = end.value
        return finding


def masked_here(rules: Rules, body: dict[str, Any], most_characters: int) -> dict[str, Any] | None:
    """`body` as a row may keep it, where a look on the spot can tell: None where a language model is needed, or there is too much text."""
    if rules.pii is None:
        return body
    texts = texts_of_request(body)
    if not rules.entities <= DEFAULT_ENTITIES or sum(map(len, texts.texts)) > most_characters:
        return None
    return texts.replaced(mask(texts.texts, detect(texts.texts, rules.entities, rules.threshold, texts.sequences)))
