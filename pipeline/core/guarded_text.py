"""One text of a streamed answer on its way through the output guardrails: what may go out now, masked; the rest waits.

    keywords          what may still become one waits: up to some three keywords' length
    personal data     of the default set: at most 64 visible characters wait (core/pii/streams.py)
    sentences         only where safety is judged or entities are found by a language model: what is no whole sentence yet waits, up to
                      MOST_WAITING characters; a sentence is looked at together with some of the text before it

Each stage sees what the stage before lets go. Where one finds what ends the stream, `Tally.error` is set and the text is empty. A keyword
or value that begins in one text and ends in another is not found. Pure; never fails.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from pipeline.core.guardrails import FindKeywords, FindPersonalData, JudgeSafety, Rules, Work, judge_keywords, judge_safety, keyword_matcher
from pipeline.core.keywords import KeywordStream
from pipeline.core.pii import DEFAULT_ENTITIES, MASK, PiiSpan
from pipeline.core.pii.streams import Masking, PiiStream
from pipeline.core.tally import Tally

Steps = Generator[Work, Any, str]

MOST_WAITING = 400
# What went before a sentence and is looked at with it: enough for a name's surroundings, and for harm that needs two sentences.
_BEFORE_NAMES, _BEFORE_SAFETY = 200, 1_000
_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]{0,3}\s+|\n|[。！？]""")
_MASK = re.compile(re.escape(MASK))


class GuardedText:
    """One choice's content, refusal or reasoning."""

    def __init__(self, rules: Rules, tally: Tally) -> None:
        self._tally = tally
        self._stages: list[_Keywords | _PersonalData | _Sentences] = []
        if rules.keywords is not None:
            self._stages.append(_Keywords(rules, tally))
        if rules.pii is not None and rules.entities & DEFAULT_ENTITIES:
            self._stages.append(_PersonalData(rules, tally))
        if rules.safety or (rules.pii is not None and rules.entities - DEFAULT_ENTITIES):
            self._stages.append(_Sentences(rules, tally))

    def take(self, text: str, *, final: bool = False) -> Steps:
        """Take more text, the last where `final`; what may go out."""
        for stage in self._stages:
            if not text and not final:
                return ""
            text = yield from stage.take(text, final)
            if self._tally.error is not None:
                return ""
        return text


class _Keywords:
    def __init__(self, rules: Rules, tally: Tally) -> None:
        assert rules.keywords is not None
        self._words, self._tally = rules.keywords, tally
        self._stream = KeywordStream(keyword_matcher(rules.keywords))

    def take(self, text: str, final: bool) -> Steps:
        if self._tally.gave_up("KEYWORD"):
            return self._stream.give_up() + text
        steps = self._stream.steps(text, final=final)
        try:
            looked_at = next(steps)
            while True:
                found = yield from self._tally.ask("KEYWORD", FindKeywords(self._words, (looked_at,)))
                if found is None:
                    return self._stream.give_up()
                looked_at = steps.send(found)
        except StopIteration as end:
            if self._stream.blocked:
                self._tally.block("KEYWORD", judge_keywords(self._stream.found)[1])
            return str(end.value)


class _PersonalData:
    def __init__(self, rules: Rules, tally: Tally) -> None:
        assert rules.pii is not None
        self._tally = tally
        self._stream = PiiStream(rules.pii, rules.entities, rules.threshold, tally.personal_data)
        self._masks = rules.pii == "MASK"

    def take(self, text: str, final: bool) -> Steps:
        if self._tally.gave_up("PII"):
            return self._stream.give_up() + text
        steps = self._stream.steps(text, final=final)
        try:
            looked_at, threshold = next(steps)
            while True:
                found = yield from self._tally.ask("PII", FindPersonalData(self._stream.wanted, threshold, (looked_at,), ()))
                if found is None:
                    return self._stream.give_up()
                looked_at, threshold = steps.send(found)
        except StopIteration as end:
            if self._stream.blocked:
                self._tally.block_personal_data()
            elif self._tally.personal_data:
                self._tally.note("PII", "MASKED")
            return str(end.value)


class _Sentences:
    """Whole sentences: names and the like in them, then safety."""

    def __init__(self, rules: Rules, tally: Tally) -> None:
        self._rules, self._tally = rules, tally
        self._entities = rules.entities - DEFAULT_ENTITIES if rules.pii is not None else frozenset()
        self._masking = Masking(rules.pii or "MASK", tally.personal_data)
        self._pending = ""
        self._looked_at = 0  # So much of what waits has been looked at, and ends with a name that may go on.
        self._before_names = ""
        self._before_safety = ""

    def take(self, text: str, final: bool) -> Steps:
        self._pending += text
        cut = len(self._pending) if final else _sentences_end(self._pending, self._looked_at)
        if not cut or (cut <= self._looked_at and not final):
            return ""
        if self._entities and not self._tally.gave_up("PII"):
            said = yield from self._without_names(cut, final)
        else:
            said, self._pending = self._pending[:cut], self._pending[cut:]
        if self._tally.error is None and self._rules.safety and not self._tally.gave_up("SAFETY") and said.strip():
            looked_at = self._before_safety + said
            self._before_safety = looked_at[-_BEFORE_SAFETY:]
            verdict = yield from self._tally.ask("SAFETY", JudgeSafety((looked_at,)))
            if verdict is not None and verdict.flagged:
                self._tally.block("SAFETY", judge_safety(verdict)[1])
        return said

    def _without_names(self, cut: int, final: bool) -> Steps:
        base = len(self._before_names)
        window = self._before_names + self._pending
        end = base + cut
        found = yield from self._tally.ask("PII", FindPersonalData(self._entities, self._rules.threshold, (window[:end],), ()))
        cut = end
        if found is None:
            said = window[base:cut]
        else:
            spans = list(_around_masks(window[:end], found))
            if not final:
                # A name at the end may go on.
                held = [span.start for span in spans if base <= span.start < end <= span.end + 1]
                cut = min((start for start in held if len(window) - start <= MOST_WAITING), default=end)
            said = self._masking.released(window, base, cut, spans)
            if self._masking.blocked:
                self._tally.block_personal_data()
            elif self._tally.personal_data:
                self._tally.note("PII", "MASKED")
        self._pending = window[cut:]
        self._looked_at = end - cut
        self._before_names = window[max(0, cut - _BEFORE_NAMES) : cut]
        return said


def _sentences_end(text: str, start: int) -> int:
    """Where the last whole sentence behind `start` ends, 0 where there is none; of what is too long to wait, the last whole word."""
    end = 0
    for found in _SENTENCE_END.finditer(text, max(0, start - 1)):
        end = found.end()
    if len(text) - (end if end > start else 0) <= MOST_WAITING:
        return end
    word = max(text.rfind(" "), text.rfind("\t")) + 1
    return word if len(text) - word <= MOST_WAITING and word > max(end, start) else len(text)


def _around_masks(text: str, spans: Sequence[PiiSpan]) -> Iterator[PiiSpan]:
    """`spans` without those that are but a mask, or a part of one; one that overlaps a mask has all of it."""
    masks = [mask.span() for mask in _MASK.finditer(text)]
    for span in spans:
        start, end = span.start, span.end
        for first, last in masks:
            if first < end and start < last:
                start, end = min(start, first), max(end, last)
        if (start, end) not in masks:
            yield PiiSpan(span.text, start, end, span.entity, span.score)
