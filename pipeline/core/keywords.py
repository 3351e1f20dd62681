"""Keywords: does a text contain one of them, as whole words, whatever its case and form.

Text and keywords are folded alike (NFKC, case-folded). A keyword of several words matches them in a row, whatever stands
between; one with characters that are no letters or digits matches as it stands, between word borders; one in a script without
spaces matches anywhere. The time does not grow with the number of keywords of the first kind. Pure; never fails.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"[\w\s]+")
# Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar: written without spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def fold(text: str) -> str:
    """`text` as comparisons see it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


class KeywordMatcher:
    """A compiled set of keywords; `find` may be called for any number of texts."""

    def __init__(self, keywords: Iterable[str]) -> None:
        self._phrases: dict[str, dict[tuple[str, ...], str]] = {}
        patterns: dict[str, str] = {}
        for keyword in keywords:
            folded = fold(keyword).strip()
            words = tuple(_WORD.findall(folded))
            if words and _PLAIN.fullmatch(folded) and not _UNSPACED.search(folded):
                self._phrases.setdefault(words[0], {})[words] = keyword
            elif folded:
                before = r"(?<!\w)" if re.match(r"\w", folded) and not _UNSPACED.match(folded) else ""
                after = r"(?!\w)" if re.search(r"\w\Z", folded) and not _UNSPACED.match(folded[-1]) else ""
                patterns[before + re.escape(folded) + after] = keyword
        self._literal = [(re.compile(pattern), keyword) for pattern, keyword in patterns.items()]

    def find(self, text: str) -> dict[str, int]:
        """The keywords that `text` contains, as configured, with how often each does; empty where none."""
        folded = fold(text)
        found: dict[str, int] = {}
        if self._phrases:
            words = _WORD.findall(folded)
            for place, word in enumerate(words):
                for phrase, keyword in self._phrases.get(word, {}).items():
                    if len(phrase) == 1 or tuple(words[place : place + len(phrase)]) == phrase:
                        found[keyword] = found.get(keyword, 0) + 1
        for pattern, keyword in self._literal:
            count = len(pattern.findall(folded))
            if count:
                found[keyword] = found.get(keyword, 0) + count
        return found
