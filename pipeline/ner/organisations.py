"""Names of organisations behind and before words that go with organisations, and names that end in a company's form.

The small model finds fewer than half of the organisations, and calls many persons one; these words tell better. Pure; linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from presidio_analyzer import EntityRecognizer, RecognizerResult

from pipeline.ner import words

ORGANIZATION: Final = "ORGANIZATION"

_WORD = re.compile(r"[^\W\d_][\w'’&\-]*")
_RUN = re.compile(r"[^\W\d_][\w'’&\-]*(?:(?:[ ]&[ ]|[ ])[^\W\d_][\w'’&\-]*){0,4}")
_BEFORE = re.compile(
    r"""\b(?:(?:work|works|worked|working|job|internship|interview|career)[ ](?:for|at|with)|employed[ ](?:by|at)|employee[ ]of
          |join(?:ed|ing)?
        |(?:ceo|cfo|cto|founder|founders|president|chairman|director|owner|shareholder|customer|client|subsidiary|division)[ ]of
        |(?:the|our)[ ](?:company|firm|startup|start-up|vendor|supplier|employer|bank|client)|company:|employer:|organization:|organisation:
        |acquired[ ]by|invest(?:ed|s|ing)?[ ]in|shares[ ](?:of|in)|hired[ ]by|founded)[ ]{1,2}(?:the[ ])?""",
    re.VERBOSE | re.IGNORECASE,
)
_BEHIND = re.compile(
    r"""[ ](?:(?:is|was)[ ](?:an?|the)[ ](?:[\w\-]+[ ]){0,3}(?:company|agency|firm|corporation|startup|start-up|business
          |organi[sz]ation|non-profit
          |nonprofit|manufacturer|provider|supplier|retailer|bank|charity|group|consultancy|subsidiary)
        |(?:headquarters|website|shares|stock|employees|customers|shareholders|subsidiary|spokesman|spokeswoman|spokesperson
          |announced|acquired
          |merged|invested|office[ ]is|offices[ ]are)\b)""",
    re.VERBOSE,
)
# Longer than this no name is looked for before such words.
_LOW = 60


class OrganisationRecognizer(EntityRecognizer):  # type: ignore[misc]
    """Presidio's interface to the functions below."""

    def __init__(self) -> None:
        super().__init__(supported_entities=[ORGANIZATION], name="OrganisationRecognizer", supported_language="en")

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        if ORGANIZATION not in entities:
            return []
        found = [*_behind_words(text), *_before_words(text), *_with_form(text)]
        return [RecognizerResult(ORGANIZATION, start, end, score) for start, end, score in found]


def _is_name(word: str) -> bool:
    return not word[0].islower() and word.lower() not in words.FUNCTION_WORDS


def _behind_words(text: str) -> Iterator[tuple[int, int, float]]:
    for match in _BEFORE.finditer(text):
        run = _RUN.match(text, match.end())
        end = 0
        for word in _WORD.finditer(text, run.start(), run.end()) if run else ():
            if not _is_name(word.group()) and word.group() not in ("of", "and", "for"):
                break
            end = word.end() if _is_name(word.group()) else end
        if end and text[match.end() : end].lower() not in words.WEEKDAYS | words.MONTHS:
            yield match.end(), end, 0.84


def _before_words(text: str) -> Iterator[tuple[int, int, float]]:
    for match in _BEHIND.finditer(text):
        low = max(0, match.start() - _LOW)
        start = match.start()
        for first, last in reversed([word.span() for word in _WORD.finditer(text, low, match.start())]):
            if text[last:start] not in ("", " ", " & ") or not _is_name(text[first:last]):
                break
            start = first
        if start < match.start() and (low == 0 or start > low):
            yield start, match.start(), 0.82


def _with_form(text: str) -> Iterator[tuple[int, int, float]]:
    """ "Crown Software Ltd.": names that stand before a form that only companies have."""
    start = previous = -1
    for word in _WORD.finditer(text):
        if start >= 0 and text[previous : word.start()] not in (" ", ", ", " & "):
            start = -1
        if word.group().lower() in _FORMS and not word.group().islower() and start >= 0:
            yield start, word.end(), 0.87
            start = -1
        elif not _is_name(word.group()):
            start = -1
        elif start < 0 or word.start() - start > _LOW or text[previous : word.start()] == ", ":
            start = word.start()
        previous = word.end()


_FORMS = words.word_set("inc incorporated ltd limited llc llp plc corp corporation gmbh sarl srl oyj zrt kft bv pty holdings")
