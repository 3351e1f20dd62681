"""What the language model calls persons, places, peoples, organisations and dates, put right where it is known to be wrong.

The small model takes house numbers and sums for dates, and calls most names that it does not know organisations. So a date needs
something of a calendar in it, an organisation that has nothing of one beside it is a person, and no name reaches over a line's end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from presidio_analyzer import EntityRecognizer, RecognizerResult

from pipeline.ner import words
from pipeline.ner.dictionary import Dictionary

PERSON: Final = "PERSON"
ORGANIZATION: Final = "ORGANIZATION"
LOCATION: Final = "LOCATION"
DATE_TIME: Final = "DATE_TIME"
NRP: Final = "NRP"
AGE: Final = "AGE"

_LINES = re.compile(r"[^\r\n]+")
_EDGES = " \t\u00a0,;:.!?>\"'()[]*_-–—/|"
_POSSESSIVE = re.compile(r"['’`]s?\Z")
_WORDS = re.compile(r"[^\W\d_][\w'’\-]*")
# What a date must have one of: a year, a month, a day of the week, a date in digits, a time of the day.
CALENDAR = re.compile(
    r"""\b(?:1[5-9]\d\d|20\d\d)s?\b|(?<![\d./\-])\d{1,4}[./\-]\d{1,2}[./\-]\d{1,4}\b(?![./\-]\d)|\b\d{1,2}:\d{2}\b
        |\b\d{1,2}[ ]?[ap]\.?m\b|\bo'clock\b
      |\b(?:january|february|march|april|may|june|july|august|september|october|november|december|monday|tuesday|wednesday|thursday|friday
         |saturday|sunday|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|christmas|easter)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_YEARS_OLD = re.compile(r"\byears?[ -]old\b|\by/?o\b", re.IGNORECASE)


# Before an organisation; before a place.
_ORGANISATION_BEFORE = re.compile(
    r"\b(?:at|for|by the|of the|with the|the|join|joined|joining|invest|company|firm|called) \Z", re.IGNORECASE
)
_PLACE_BEFORE = re.compile(r"\b(?:in|near|throughout|outside) \Z", re.IGNORECASE)
_TO_PLACE = re.compile(
    r"\b(?:in|near|throughout|outside|at|to|from|of|via|around|across|through|into|leave|leaving|left|visit|visiting)(?: the)? \Z", re.I
)
_PEOPLE_ENDING = re.compile(r"(?:ans?|ese|ish|i|ists?|ites?|ers?|ics?)\Z")


class ModelRecognizer(EntityRecognizer):  # type: ignore[misc]
    """The entities that the NLP engine has found already, as findings; `dictionary` tells names from words."""

    def __init__(self, dictionary: Dictionary) -> None:
        super().__init__(
            supported_entities=[PERSON, LOCATION, NRP, ORGANIZATION, DATE_TIME], name="ModelRecognizer", supported_language="en"
        )
        self._dictionary = dictionary

    def load(self) -> None:
        """The engine has loaded the model."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        results = []
        for span in nlp_artifacts.entities:
            for start, end in _trimmed(text, span.start_char, span.end_char):
                for entity, score in self._put_right(text, start, end, span.label_):
                    if entity in entities:
                        results.append(RecognizerResult(entity, start, end, score))
        if PERSON in entities:
            results.extend(RecognizerResult(PERSON, start, end, score) for start, end, score in self._passed_over(nlp_artifacts.tokens))
        return results

    def _passed_over(self, tokens: Any) -> Iterator[tuple[int, int, float]]:
        """Names by their part of speech that the model gives no entity, with a word that nobody knows."""
        run: list[Any] = []
        for token in [*tokens, None]:
            if token is not None and token.pos_ == "PROPN" and not token.ent_type_ and token.text[0].isupper() and token.text.isalpha():
                run.append(token)
                continue
            if run and len(run) <= 4:
                plain = [t.text for t in run if len(t.text) > 1]
                unknown = self._unknown(plain) and all(word[1:].islower() for word in plain)
                if unknown and not any(word.lower() in words.COMPANY_FORMS for word in plain):
                    yield run[0].idx, run[-1].idx + len(run[-1].text), 0.55 if len(run) > 1 else 0.45
            run = []

    def _put_right(self, text: str, start: int, end: int, label: str) -> Iterator[tuple[str, float]]:
        written = text[start:end]
        if label == DATE_TIME:
            if CALENDAR.search(written) and not _YEARS_OLD.search(written):
                yield DATE_TIME, 0.8
            return
        names = _WORDS.findall(written)
        if not names:
            return
        small = [name.lower() for name in names]
        if any(word in words.COMPANY_FORMS for word in small[1:] or small):
            yield ORGANIZATION, 0.85
        elif written.lower() in words.COUNTRIES:
            yield LOCATION, 0.85
        elif label != LOCATION and _PLACE_BEFORE.search(text, max(0, start - 12), start) and self._unknown(names):
            yield LOCATION, 0.8
        elif label == NRP:
            yield NRP, 0.8 if any(_PEOPLE_ENDING.search(word) for word in small) else 0.4
        elif label in (PERSON, ORGANIZATION) and (written.islower() or any(c.isdigit() for c in written) or len(written) <= 2):
            # A name in small letters within a text that has capitals is a common word.
            return
        elif label in (LOCATION, ORGANIZATION) and self._may_be_person(text, start, names, label):
            yield PERSON, 0.6
        else:
            yield label, 0.5 if label == ORGANIZATION else 0.8

    def _unknown(self, names: list[str]) -> bool:
        return any(name not in self._dictionary for name in names)

    def _may_be_person(self, text: str, start: int, names: list[str], label: str) -> bool:
        """Nothing says that the place or organisation in text[start:] is one: no words before it that go with one, but an unknown word."""
        before = _TO_PLACE if label == LOCATION else _ORGANISATION_BEFORE
        if len(names) > 4 or not self._unknown(names) or before.search(text, max(0, start - 12), start):
            return False
        return all(name[0].isupper() and (len(name) == 1 or name[1:].islower()) for name in names)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The lines of text[start:end], without signs at their edges and without a genitive's ending."""
    for line in _LINES.finditer(text, start, end):
        first, last = line.span()
        while first < last and text[first] in _EDGES:
            first += 1
        while last > first and text[last - 1] in _EDGES:
            last -= 1
        # "cc Alice": what is written small before a name is no part of it.
        while first < last and text[first].islower() and not text[first:last].islower() and " " in text[first:last]:
            first = text.index(" ", first, last) + 1
        genitive = _POSSESSIVE.search(text, first, last)
        if genitive:
            last = genitive.start()
        if last - first >= 2:
            yield first, last
