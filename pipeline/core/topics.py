"""Topics: is a request on one of those that an endpoint is for. By words, so that everybody can tell beforehand what will pass.

    "billing"                                on it is what says "billing" or a word of the same stem ("billed", "bills")
    "refunds for orders"                     what says all of its words but the little ones, or
    "billing: invoice, payment method"       what says one of the words or phrases behind the colon, or the name itself

A request passes where its newest user message is on a topic. A message of fewer than `FEW_WORDS` words that mean something ("and the
second one?") is taken with what the user said before. Words are compared by their stems (Snowball, English), whatever their case and
form; a topic in a script without spaces matches anywhere. What is meant but not said is not understood. Pure; never fails.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import snowballstemmer

from pipeline.core.keywords import UNSPACED, WORD, fold

FEW_WORDS = 4
# Words that say nothing of a topic.
_LITTLE_WORDS = """a about all also am an and any are as at be been but by can could did do does for from had has have how i if in into is
it its just let like may me might more most much must my need no not of on one only or other our out over please so some such than thank
thanks that the their them then there these they this those to too up us very want was we were what when where which who why will with
would you your hello hi hey"""
_LITTLE = frozenset(_LITTLE_WORDS.split())


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    return str(_stemmer.stemWord(word))


_stemmer = snowballstemmer.stemmer("english")


def _stems(text: str) -> list[str]:
    """The stems of the words that mean something, in order."""
    return [_stem(word) for word in WORD.findall(fold(text)) if word not in _LITTLE and len(word) > 1]


def _size(text: str) -> int:
    """How many words mean something; in a script without spaces, two characters count as one."""
    return len(_stems(text)) + len(UNSPACED.findall(text)) // 2


class TopicMatcher:
    """A compiled list of topics."""

    def __init__(self, topics: Sequence[str]) -> None:
        # Each topic's alternatives: sets of stems that must all be there, and literal texts of scripts without spaces.
        self._stems: list[tuple[str, frozenset[str]]] = []
        self._literals: list[tuple[str, str]] = []
        for topic in topics:
            name, _, others = topic.partition(":")
            for wording in [name, *re.split(r"[,;]", others)]:
                folded = fold(wording).strip()
                if UNSPACED.search(folded):
                    self._literals.append((name.strip(), folded))
                elif folded:
                    stems = frozenset(_stems(folded)) or frozenset(map(_stem, WORD.findall(folded)))
                    if stems:
                        self._stems.append((name.strip(), stems))

    def topic_of(self, messages: Sequence[str]) -> str | None:
        """The first topic that the newest of the user's messages is on, or None. `messages`: oldest first."""
        newest = messages[-1:]
        return self._named(messages if newest and _size(newest[0]) < FEW_WORDS else newest)

    def _named(self, texts: Sequence[str]) -> str | None:
        folded = [fold(text) for text in texts]
        stems = {_stem(word) for text in folded for word in set(WORD.findall(text))}
        for name, wanted in self._stems:
            if wanted <= stems:
                return name
        for name, literal in self._literals:
            if any(literal in text for text in folded):
                return name
        return None
