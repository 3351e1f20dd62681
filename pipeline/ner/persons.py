"""Names of persons behind and before words that go with persons, and on lines of their own. For names the model does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from presidio_analyzer import EntityRecognizer, RecognizerResult

from pipeline.ner import words
from pipeline.ner.dictionary import Dictionary

PERSON: Final = "PERSON"
_PARTICLES = words.word_set("de la da dos das do del della di van von der den ter ten bin ibn al el abu af av du le")

# A run of words; which of them are a name is decided word by word.
_RUN = re.compile(r"[^\W\d_][\w'’\-]*\.?(?:[ ]{1,2}[^\W\d_][\w'’\-]*\.?){0,5}")
_WORD = re.compile(r"[^\W\d_][\w'’\-]*")
_BEFORE = re.compile(
    r"""\b(?:(?:my|his|her|their|your|full|first|last|the)[ ]name[ ]is|name[ ]?:|named|surname[ ]?:|i'm|i[ ]am|this[ ]is|it's
      |signed(?:[ ]by)?:?|dear|hi|hello|hey
        |regards,\s|sincerely,\s|cheers,\s|yours,\s|thanks,\s|directed[ ]by:?|written[ ]by:?|produced[ ]by:?|sung[ ]by|starring:?
          |author:|attn:?|contact:?|user:|customer:|patient:?|client:|from:|to:|cc:
        |(?:speak|talk)[ ](?:to|with)|(?:spoke|talked|wrote|listen(?:ed|ing)?|happened|married)[ ]to|(?:asked|told|met|meeting
          |hired|fired|thank|thanks|emailed|called
          |phoned|texted|married|cc|boss|colleague|wife|husband|friend|manager|nurse|teacher|patient)
        |ask[ ]for|under[ ]the[ ]name(?:[ ]of)?|add|my[ ](?:wife|husband|son|daughter|brother|sister
          |mother|father|friend|boss|colleague|doctor|neighbour|neighbor)
        |(?:mr|mrs|ms|miss|dr|prof|sir|madam|lady|lord)(?:\.|\b))[ ]{0,4}""",
    re.VERBOSE | re.IGNORECASE,
)
_WEAK_BEFORE = frozenset(["it's", "this is", "i am", "i'm", "add", "to:", "from:", "to", "contact", "hi", "hello", "hey"])
_BEHIND = re.compile(
    r"""(?:['’]s?[ ](?:kid|kids|child|children|daughter|son|wife|husband|mother|father|mom|dad|mum|brother|sister|uncle|aunt|cousin
      |friend|girlfriend
          |boyfriend|boss|house|home|car|phone|email|address|account|birthday|idea|opinion|advice|name|face|voice|hands?|eyes|hair|family|parents|desk|laptop|wedding|job|salary|manager|team
          |death|life|novel|book|song|songs|album|poems?|paintings?)
        |,?[ ](?:says|said|tells|told|asks|asked|writes|wrote|replied|lives|lived|was[ ]born|is[ ]an?[ ]\d|will[ ]be[ ](?:talking
          |speaking)|called[ ]me|sang|thinks|thought|died|married)\b
        |,[ ](?:can|could|may|would|will|please|how|what|where|when|are|do|did|have)\b|[ ]?,[ ](?:aged[ ])?\d\d,)""",
    re.VERBOSE,
)
# "Alice Johnson <alice@example.com>"
_MAILBOX = re.compile(r"[ ]?[<(](?:mailto:)?[\w.+\-]{1,64}@[\w.\-]{3,}[>)]")
_LINE = re.compile(r"[^\r\n]+")
_SPEAKER = re.compile(r"[ \t>*]*([^\W\d_][\w'’\-]+):[ ]?[\"“']")


class PersonRecognizer(EntityRecognizer):  # type: ignore[misc]
    """Presidio's interface to the functions below; `dictionary` tells names from words."""

    def __init__(self, dictionary: Dictionary) -> None:
        super().__init__(supported_entities=[PERSON], name="PersonRecognizer", supported_language="en")
        self._dictionary = dictionary

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        if PERSON not in entities:
            return []
        found = [*self._behind_words(text), *self._before_words(text), *self._lines(text)]
        return [RecognizerResult(PERSON, start, end, score) for start, end, score in found]

    def _behind_words(self, text: str) -> Iterator[tuple[int, int, float]]:
        for match in _BEFORE.finditer(text):
            end = self._name(text, match.end())
            if not end:
                continue
            cue = match.group().strip().lower()
            if cue in _WEAK_BEFORE and not self._unknown(text[match.end() : end]):
                continue
            yield match.end(), end, 0.88 if cue not in _WEAK_BEFORE else 0.7

    def _name(self, text: str, start: int) -> int:
        """Where the name that begins at `start` ends; 0 where none does."""
        run = _RUN.match(text, start)
        if run is None:
            return 0
        end, count = 0, 0
        for word in _WORD.finditer(text, run.start(), run.end()):
            small = word.group().lower()
            if word.group()[0].islower():
                if small in _PARTICLES and end:
                    continue
                break
            if small in words.FUNCTION_WORDS or small in words.UNITS or count == 4:
                break
            if small in words.TITLES:
                if end:
                    break
                return 0
            count += 1
            end = word.end()
            behind = text[end : end + 1]
            if behind == "." and len(word.group()) == 1:
                end += 1
            elif behind == ".":
                break
        written = text[start:end]
        cut = re.search(r"['’]s\Z", written)
        return start + cut.start() if cut else end

    def _unknown(self, written: str) -> bool:
        """Is one of the words none of the dictionary."""
        return any(word not in self._dictionary for word in _WORD.findall(written) if len(word) > 1)

    def _before_words(self, text: str) -> Iterator[tuple[int, int, float]]:
        for match in [*_BEHIND.finditer(text), *_MAILBOX.finditer(text)]:
            low = max(0, match.start() - 40)
            names = []
            for word in _WORD.finditer(text, low, match.start()):
                names.append(word.span())
            start = end = match.start()
            for first, last in reversed(names):
                word_, gap = text[first:last], text[last:start]
                if (
                    gap not in ("", " ", ". ", "  ")
                    or (word_[0].islower() and word_ not in _PARTICLES)
                    or word_.lower() in words.FUNCTION_WORDS
                ):
                    break
                start = first
            while start < end and text[start].islower():
                start = text.find(" ", start, end) + 1 or end
            if (
                start < end
                and (low == 0 or start > low)
                and text[start:end].lower() not in words.COUNTRIES
                and self._unknown(text[start:end])
            ):
                yield start, end, 0.86

    def _lines(self, text: str) -> Iterator[tuple[int, int, float]]:
        lines = list(_LINE.finditer(text))
        for number, line in enumerate(lines):
            speaker = _SPEAKER.match(line.group())
            if speaker is not None and speaker.group(1)[0].isupper() and self._unknown(speaker.group(1)):
                yield line.start() + speaker.start(1), line.start() + speaker.end(1), 0.8
            if len(lines) < 3:
                continue
            written = line.group().strip(" \t>*-,")
            start = line.start() + line.group().index(written) if written else 0
            names = written.split(" ")
            names = [name for name in names if name]
            # A line of two to four names at the head of a block of lines.
            if (
                2 <= len(names) <= 5
                and number == 0
                and all(_WORD.fullmatch(name.rstrip(".")) and (name[0].isupper() or name in _PARTICLES) for name in names)
                and not any(name.lower().rstrip(".") in words.COMPANY_FORMS or name.lower() in words.FUNCTION_WORDS for name in names)
                and self._unknown(written)
            ):
                yield start, start + len(written), 0.87
