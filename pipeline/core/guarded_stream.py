"""Output guardrails over a streamed answer: held back is only what could still become a match, the rest goes out at once.

    examination = StreamExamination(rules, clock_s)
    chunks = yield from examination.feed(chunk)        a generator of Work, as core/guardrails.examine is
    chunks = yield from examination.finish()           the rest

Each text of each choice (content, refusal, reasoning) is guarded for itself: core/guarded_text.py. Tool calls wait until their choice
ends, and are examined whole. A choice's finish_reason goes out after all of its text; what comes for a choice after that is dropped. So
are log probabilities and fields that the gateway doesn't know: they would carry text past the guardrails.

Chunks have OpenAI's shape and were checked where they were read (pipeline/providers). A value or keyword that is divided between two
choices, or between reasoning and content, is not found. Fails closed, as `examine` does: `error` is set, and nothing more goes out. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pipeline.core.guarded_text import GuardedText
from pipeline.core.guardrails import Rules, Work, examine
from pipeline.core.pii import DEFAULT_ENTITIES
from pipeline.core.tally import Tally
from pipeline.core.texts import texts_of_answer
from pipeline.core.together import TEXTS, Together
from pipeline.errors import SluiceError
from pipeline.records import Assessment, GuardrailRun

_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_CALLS = ("tool_calls", "function_call")

Chunks = Generator[Work, Any, list[dict[str, Any]]]
Part = Generator[Work, Any, dict[str, Any]]


class StreamExamination:
    """`feed` each chunk, `finish` at the end: both come to the chunks that may go out. `error` set: nothing more is released."""

    def __init__(self, rules: Rules, clock_s: Callable[[], float]) -> None:
        self._rules, self._clock_s = rules, clock_s
        self._tally = Tally(rules, clock_s)
        self._choices: dict[int, _Choice] = {}
        self._head_as_it_came: dict[str, Any] = {}
        self._head: dict[str, Any] = {}

    @property
    def error(self) -> SluiceError | None:
        """What ends the stream."""
        return self._tally.error

    @property
    def runs(self) -> list[GuardrailRun]:
        """Which guardrails ran, so far."""
        return self._tally.runs

    @property
    def assessments(self) -> list[Assessment]:
        """What they found, so far."""
        return self._tally.assessments

    def feed(self, chunk: dict[str, Any]) -> Chunks:
        """Take the next chunk, which is not changed."""
        if self.error is not None:
            return []
        yield from self._take_head(chunk)
        choices = []
        for choice in chunk["choices"]:
            index = choice["index"]
            known = self._choices.get(index)
            if known is None:
                known = self._choices[index] = _Choice("delta" in choice, self._rules, self._tally, self._clock_s)
            said = yield from known.take(choice)
            if said:
                choices.append({"index": index, **said})
        return self._released(choices)

    def finish(self) -> Chunks:
        """The stream has ended."""
        choices = []
        for index, choice in self._choices.items():
            if self.error is None and not choice.ended:
                said = yield from choice.rest()
                if said:
                    choices.append({"index": index, **choice.made(said, None)})
        if self.error is None:
            self._tally.complete()
        return self._released(choices)

    def _released(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**self._head, "choices": choices}] if choices and self.error is None else []

    def _take_head(self, chunk: dict[str, Any]) -> Generator[Work, Any, None]:
        """The fields around the choices; where one holds a text instead of what it is for, that is examined."""
        head = {name: chunk[name] for name in _HEAD if name in chunk}
        if head == self._head_as_it_came:
            return
        self._head_as_it_came = self._head = head
        if texts_of_answer(head).texts:
            rules = replace(self._rules, safety=False, entities=self._rules.entities & DEFAULT_ENTITIES)
            finding = yield from examine(rules, head, "output", self._clock_s)
            self._tally.add(finding)
            self._head = head if finding.body is None else finding.body


class _Choice:
    """One choice of the answer. `ended`: its finish_reason has come."""

    def __init__(self, is_chat: bool, rules: Rules, tally: Tally, clock_s: Callable[[], float]) -> None:
        self._is_chat, self._rules, self._tally, self._clock_s = is_chat, rules, tally, clock_s
        self._texts: dict[str, GuardedText] = {}
        self._calls = Together()
        self.ended = False

    def take(self, choice: dict[str, Any]) -> Part:
        """What of the next part of this choice, and of what was held back, may go out; empty where nothing may."""
        if self.ended or self._tally.error is not None:
            return {}
        reason = choice.get("finish_reason") or None
        given = choice.get("delta") or {} if self._is_chat else choice
        said: dict[str, Any] = {}
        role = given.get("role") if self._is_chat else None
        if isinstance(role, str) and _steers(role, "role"):
            said["role"] = role
        for name in TEXTS if self._is_chat else ("text",):
            text = given.get(name)
            if isinstance(text, str):
                if name not in self._texts:
                    self._texts[name] = GuardedText(self._rules, self._tally)
                released = yield from self._texts[name].take(text)
                if released or (role and not text):
                    said[name] = released
        calls = {name: given[name] for name in _CALLS if given.get(name)} if self._is_chat else {}
        if calls:
            self._calls.add({"choices": [{"index": 0, "delta": calls}]})
        if reason is not None:
            self.ended = True
            for name, value in (yield from self.rest()).items():
                said[name] = said.get(name, "") + value if name in TEXTS else value
            reason = reason if _steers(reason, "finish_reason") else "stop"
        return self.made(said, reason) if said or reason else {}

    def made(self, said: dict[str, Any], reason: str | None) -> dict[str, Any]:
        """The choice of a chunk that says this."""
        return {"delta": said, "finish_reason": reason} if self._is_chat else {"text": said.get("text", ""), "finish_reason": reason}

    def rest(self) -> Part:
        """All that was held back."""
        said: dict[str, Any] = {}
        for name, guarded in self._texts.items():
            text = yield from guarded.take("", final=True)
            if self._tally.error is not None:
                return {}
            if text:
                said[name] = text
        if self._calls:
            said |= yield from self._whole_calls()
        return said

    def _whole_calls(self) -> Part:
        held = self._calls.chunk()["choices"][0]["delta"]
        finding = yield from examine(self._rules, self._calls.body({}), "output", self._clock_s)
        self._tally.add(finding)
        if finding.error is not None:
            return {}
        message = (self._calls.body({}) if finding.body is None else finding.body)["choices"][0]["message"]
        said: dict[str, Any] = {}
        if "tool_calls" in message:
            numbers = sorted(call["index"] for call in held["tool_calls"])
            said["tool_calls"] = [{"index": number, **call} for number, call in zip(numbers, message["tool_calls"], strict=True)]
        if "function_call" in message:
            said["function_call"] = message["function_call"]
        return said


@lru_cache(maxsize=256)
def _steers(value: str, field: str) -> bool:
    """Is this a role or a finish_reason by its form, or a text in the place of one."""
    choice = {"delta": {"role": value}} if field == "role" else {"finish_reason": value}
    return not texts_of_answer({"choices": [choice]}).texts
