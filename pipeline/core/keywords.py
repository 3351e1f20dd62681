"""Keywords: does a text contain one of them, as whole words, whatever its case and form.

Text and keywords are folded alike (NFKC, case-folded). A keyword of several words matches them in a row, whatever stands between; one with
characters that are no letters or digits matches as it stands, between word borders; one in a script without spaces matches anywhere.
What a text hides is looked at too: invisible characters, lookalikes of other scripts, letters set apart, digits for letters, and what is
encoded (pipeline/core/pii/normalise.py). The time does not grow with the number of keywords. Pure; never fails.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from functools import partial

from pipeline.core.driving import driven
from pipeline.core.pii.normalise import fold_lookalikes, readings

# Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar: written without spaces between words.
_UNSPACED_SET = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = re.compile(f"[{_UNSPACED_SET}]")
WORD = re.compile(rf"[^\W{_UNSPACED_SET}]+")
_ASCII_WORD = re.compile(r"[0-9a-z_]+")
_PLAIN = re.compile(r"[\w\s]+")
_OTHER = re.compile(rf"[^\w\s]|[{_UNSPACED_SET}]")

_APART = re.compile(r"(?<!\w)\w(?:[ .\-_*·|/]{1,2}\w(?!\w)){3,}")
_ENDS_APART = re.compile(r"(?<!\w)(?:\w[ .\-_*·|/]{1,2})+\w?\Z")
_TOKEN = re.compile(r"\S+")
_MIXED = re.compile(r"[0134578@$!]{1,4}(?=[a-z])|(?<=[a-z])[0134578$]{1,4}")
_SIGNS = re.compile("[0134578@$!]")
_LONGEST_TOKEN = 64
# Letters that each carry marks of their own, which no language writes three in a row.
_MARKS = re.compile("[\u0300-\u036f]")
_MARKED = re.compile(r"(?:\w[\u0300-\u036f]+){3,}")
_LATIN = re.compile("[a-z]")
_NOT_LATIN = re.compile(r"[^\W\d_\x00-\x7f]")
_AS_LETTERS = (str.maketrans("0134578@$!", "oieastbasi"), str.maketrans("0134578@$!", "oleastbasl"))


def fold(text: str) -> str:
    """`text` as comparisons see it."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _bared(folded: str) -> str:
    """`folded` without what is not drawn, and with lookalikes as letters in words that only they keep from being Latin.

    A word of another script stays one where the text around it is in that script too.
    """
    if folded.isascii():
        return folded
    others = [c for c in set(folded) if not c.isascii()]
    undrawn = {ord(c): "" for c in others if unicodedata.category(c) in ("Cf", "Mn", "Me")}
    bare = folded.translate(undrawn) if undrawn else folded
    if not any(c.isalpha() and fold_lookalikes(c).isascii() for c in others):
        return bare
    mostly_latin = len(_LATIN.findall(bare)) > len(_NOT_LATIN.findall(bare))

    def seen(word: re.Match[str]) -> str:
        written = word.group()
        if written.isascii():
            return written
        plain = fold_lookalikes(written)
        return plain.lower() if plain.isascii() and (mostly_latin or _LATIN.search(written)) else written

    return re.sub(r"\w+", seen, bare)


def _translated(letters: dict[int, int], found: re.Match[str]) -> str:
    return found.group().translate(letters)


def _spelled_out(view: str, vocabulary: frozenset[str]) -> Iterator[str]:
    """`view` with letters for the digits and signs among letters, where that makes a word of `vocabulary`."""
    sites = [match.start() for match in _MIXED.finditer(view)] if _SIGNS.search(view) else []
    if not sites:
        return
    tokens = {_token(view, site) for site in sites}
    for letters in _AS_LETTERS:
        if any(not vocabulary.isdisjoint(WORD.findall(_MIXED.sub(partial(_translated, letters), token))) for token in tokens):
            yield _MIXED.sub(partial(_translated, letters), view)


def _unmarked(found: re.Match[str]) -> str:
    return _MARKS.sub("", found.group())


def _token(view: str, site: int) -> str:
    start = max(view.rfind(" ", max(0, site - _LONGEST_TOKEN), site) + 1, site - _LONGEST_TOKEN, 0)
    end = view.find(" ", site, site + _LONGEST_TOKEN)
    return view[start : end if end >= 0 else site + _LONGEST_TOKEN]


def _views(text: str, vocabulary: frozenset[str] = frozenset()) -> Iterator[str]:
    """`text` folded, first, and what else it may be read as, as far as that differs."""
    folded = fold(text)
    yield folded
    seen = {folded}
    read = [folded] if text.isascii() else [folded, _bared(folded), _bared(fold(_MARKED.sub(_unmarked, text)))]
    read += [fold(reading.text) for reading in readings(text)[1:] if reading.decoded]
    for view in read:
        if view not in seen:
            seen.add(view)
            yield view
        if vocabulary:
            for plain in _spelled_out(view, vocabulary):
                if plain not in seen:
                    seen.add(plain)
                    yield plain
        apart = " ".join(re.sub(r"[\W_]", "", found) for found in _APART.findall(view))
        if apart:
            yield apart


class KeywordMatcher:
    """A compiled set of keywords; `find` may be called for any number of texts."""

    def __init__(self, keywords: Iterable[str]) -> None:
        # Phrases by their first word, literals by their rarest, or by their first two characters where they have no word.
        self._phrases: dict[str, dict[tuple[str, ...], str]] = {}
        self._literals: dict[str, list[tuple[str, str, int]]] = {}
        self._symbols: dict[str, dict[str, str]] = {}
        self.longest = 0
        forms = [(form, keyword) for keyword in keywords for form in {fold(keyword).strip(), _bared(fold(keyword)).strip()} if form]
        literals = []
        for form, keyword in forms:
            self.longest = max(self.longest, len(form), len(keyword))
            words = WORD.findall(form)
            if words and _PLAIN.fullmatch(form) and not UNSPACED.search(form):
                self._phrases.setdefault(words[0], {})[tuple(words)] = keyword
            elif words:
                literals.append((form, keyword, words))
            else:
                self._symbols.setdefault(form[:2], {})[form] = keyword
        common = Counter(word for _, _, words in literals for word in set(words))
        for form, keyword, words in literals:
            anchor = min(words, key=lambda word: common[word])
            place = next(m.start() for m in WORD.finditer(form) if m.group() == anchor)
            self._literals.setdefault(anchor, []).append((form, keyword, place))
        self._lengths = {first: tuple(sorted(set(map(len, phrases)))) for first, phrases in self._phrases.items()}
        self._symbol_lengths = {first: tuple(sorted(set(map(len, several)))) for first, several in self._symbols.items()}
        self._vocabulary = frozenset(word for phrases in self._phrases.values() for words in phrases for word in words) | frozenset(common)
        self._openings = frozenset(words[:n] for phrases in self._phrases.values() for words in phrases for n in range(1, len(words)))
        self._first_words = frozenset(words[0] for words in self._openings)

    def find(self, text: str) -> dict[str, int]:
        """The keywords that `text` contains, as configured, with how often each does; empty where none.

        What only another reading of the text shows counts once.
        """
        found: dict[str, int] = {}
        for number, view in enumerate(_views(text, self._vocabulary)):
            for keyword, count in self._found(view).items():
                if number == 0:
                    found[keyword] = count
                else:
                    found.setdefault(keyword, 1)
        return found

    def find_plain(self, text: str) -> dict[str, int]:
        """The same for `text` as it stands, in no other reading."""
        return self._found(fold(text))

    def _found(self, folded: str) -> dict[str, int]:
        found: dict[str, int] = {}
        words = _ASCII_WORD.findall(folded) if folded.isascii() else WORD.findall(folded)
        known = set(words)
        if not self._phrases.keys().isdisjoint(known):
            for place, word in enumerate(words):
                for length in self._lengths.get(word, ()):
                    keyword = self._phrases[word].get(tuple(words[place : place + length]))
                    if keyword is not None:
                        found[keyword] = found.get(keyword, 0) + 1
        if not self._literals.keys().isdisjoint(known):
            for match in WORD.finditer(folded):
                for literal, keyword, offset in self._literals.get(match.group(), ()):
                    start = match.start() - offset
                    if start >= 0 and folded.startswith(literal, start) and _bordered(folded, start, start + len(literal)):
                        found[keyword] = found.get(keyword, 0) + 1
        if self._symbols:
            for match in _OTHER.finditer(folded):
                start = match.start()
                for opening in (folded[start], folded[start : start + 2]):
                    for length in self._symbol_lengths.get(opening, ()):
                        keyword = self._symbols[opening].get(folded[start : start + length])
                        if keyword is not None and (length > 1) == (len(opening) > 1):
                            found[keyword] = found.get(keyword, 0) + 1
        return found

    @staticmethod
    def _words_of(token: str) -> list[str]:
        return _ASCII_WORD.findall(token) if token.isascii() and token.islower() else WORD.findall(_bared(fold(token)))

    def begins(self, text: str) -> int:
        """Where in `text` the last part begins that further text could still make a keyword of; its length where there is none."""
        tail = max(0, len(text) - 2 * self.longest - 8)
        start = len(text)
        # The last word may go on; so may letters set apart.
        while start > tail and not text[start - 1].isspace():
            start -= 1
        apart = _ENDS_APART.search(text[tail:])
        if apart:
            start = min(start, tail + apart.start())
        if self._symbols or self._literals:
            start = min(start, max(tail, len(text) - self.longest))
        if not self._openings:
            return start
        # Whole words that begin a phrase.
        seen = text[tail:].lower() if text.isascii() else text[tail:]
        tokens = [(tail + m.start(), self._words_of(m.group())) for m in _TOKEN.finditer(seen)]
        if tokens and text and not text[-1].isspace():
            tokens.pop()
        for place, (at, first) in enumerate(tokens):
            if at >= start or self._first_words.isdisjoint(first):
                continue
            words = [word for _, several in tokens[place:] for word in several]
            if any(tuple(words[offset:]) in self._openings for offset in range(len(first))):
                return at
        return start


def _bordered(text: str, start: int, end: int) -> bool:
    """Do word borders lie at both ends of text[start:end]; at a character that is no letter of a spaced script, there is one."""
    before = start == 0 or not WORD.match(text[start]) or not WORD.match(text[start - 1])
    return before and (end >= len(text) or not WORD.match(text[end - 1]) or not WORD.match(text[end]))


class KeywordStream:
    """Keywords in text that arrives piece by piece; a keyword ends the stream. `found`: those that did; `blocked`: no more is released."""

    def __init__(self, matcher: KeywordMatcher) -> None:
        self._matcher = matcher
        self._context = ""
        self._pending = ""
        self.found: dict[str, int] = {}
        self.blocked = False

    def feed(self, piece: str) -> str:
        """Take the next piece; the text that may be released now. At most about three keywords' length is held back."""
        return driven(self.steps(piece, final=False), self._matcher.find)

    def finish(self) -> str:
        """The stream has ended; the rest of the text."""
        return driven(self.steps("", final=True), self._matcher.find)

    def give_up(self) -> str:
        """What is held back, unlooked at."""
        held, self._pending = self._pending, ""
        return held

    def steps(self, piece: str, *, final: bool) -> Generator[str, dict[str, int], str]:
        """`feed` or `finish` for whoever looks for the keywords elsewhere: yields text, takes what `find` says of it."""
        self._pending += piece
        if self.blocked or not self._pending:
            return ""
        window = self._context + self._pending
        base = len(self._context)
        cut = len(window) if final else max(base, self._undivided(window, self._matcher.begins(window)))
        if cut == base:
            return ""
        self.found = (yield window[:cut]) or self._over(window, cut)
        if self.found:
            self.blocked, self._pending = True, ""
            return ""
        self._pending = window[cut:]
        self._context = window[self._context_before(window, cut) : cut]
        return window[base:cut]

    def _over(self, window: str, cut: int) -> dict[str, int]:
        """Keywords that begin before `cut` and end behind it: they are there already, so nothing of them may go out."""
        if cut == len(window):
            return {}
        first = self._context_before(window, cut)
        last = self._undivided(window, len(window))
        return self._matcher.find_plain(window[first:last]) if last > cut else {}

    def _context_before(self, window: str, cut: int) -> int:
        """From where on what has gone out matters: a word that has begun there must not look like a whole one."""
        first = max(0, cut - 2 * self._matcher.longest - 8)
        while first > 0 and not window[first - 1].isspace() and cut - first < 4 * self._matcher.longest + 64:
            first -= 1
        return first

    def _undivided(self, window: str, cut: int) -> int:
        """`cut`, or the beginning of the word that it would divide: "secret" is no keyword where "secretary" stands.

        A word of which more than the longest keyword lies before the cut may be divided. At the end of `window` any word may go on.
        """
        if cut < len(window) and not WORD.match(window[cut]):
            return cut
        start = cut
        while start > 0 and WORD.match(window[start - 1]):
            start -= 1
            if cut - start > self._matcher.longest:
                return cut
        return start
