"""The words of a text, and which of them stand in the lexicon (lexicon.txt): as evidence for a category, or in a class that rules combine.

Words are seen through what hides them: other letters of the same look and encodings are pipeline/core/pii/normalise.py's, here are digits
and signs for letters, letters left out or repeated, letters set apart and words run together. Pure; linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import product
from typing import NamedTuple

# A word with signs in it may be one that hides ("f**k", "$hit", "k!ll"), or several.
_TOKEN = re.compile(r"[@$]?[^\W_]+(?:['*@$!|]{1,3}[^\W_]+)*")
# In ASCII text without such signs all words are so.
_SIGNED = re.compile("['*@$!|]")
_SIMPLE = re.compile("[a-z0-9]+")
_PARTS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_APART = re.compile(r"(?<!\w)\w(?:[ .\-_*·|/,]\w(?!\w)){2,}")
_LEET = (str.maketrans("0134578@$!|", "oieastbasil"), str.maketrans("0134578@$!|", "oleastbasli"))
_REPEATED = re.compile(r"(.)\1{2,}")
_LETTER_REPEATED = re.compile(r"([a-z])\1\1")
_LONGEST_WORD = 48
_SHORTEST_JOINED = 10
_LONGEST_HIDDEN = 14
_DIGITS = re.compile("[0-9]")


@dataclass(frozen=True, slots=True)
class Section:
    """A list of the lexicon: `name` is a category or a class; `weight` None for a class."""

    name: str
    weight: float | None


class Hit(NamedTuple):
    """A term found: `place` is the number of its first word."""

    place: int
    term: str
    section: Section


@dataclass(frozen=True, slots=True)
class _Term:
    rest: tuple[str, ...]
    open_end: bool
    section: Section
    term: str


class _Lexicon:
    def __init__(self, text: str) -> None:
        self.first: dict[str, list[_Term]] = {}
        self.openings: dict[str, list[Section]] = {}
        self.joined: dict[str, list[str]] = {}
        section: Section | None = None
        for line in text.splitlines():
            if line.startswith("["):
                name, _, weight = line.strip("[]").partition(" ")
                section = Section(name, float(weight) if weight else None)
            elif line and not line.startswith("#") and section is not None:
                for term in filter(None, map(str.strip, line.split(","))):
                    self._add(term, section)

    def _add(self, term: str, section: Section) -> None:
        open_end = term.endswith("*")
        words = term.rstrip("*").replace("-", " ").split()
        if open_end and len(words) == 1:
            self.openings.setdefault(words[0], []).append(section)
            return
        self.first.setdefault(words[0], []).append(_Term(tuple(words[1:]), open_end, section, term))
        joined = "".join(words)
        # Shorter ones are words of their own: "cum in" is no cumin.
        if len(words) > 1 and len(joined) >= _SHORTEST_JOINED and (section.weight or 0) >= 3:
            self.joined[joined] = words


@cache
def _lexicon() -> _Lexicon:
    return _Lexicon(files(__package__).joinpath("lexicon.txt").read_text(encoding="utf-8"))


@lru_cache(maxsize=50_000)
def _of_word(word: str) -> tuple[tuple[Section, ...], dict[str, list[_Term]], tuple[_Term, ...]] | None:
    """What `word` is by itself, and the phrases that it begins: by their second word, and those whose second word has an open end.

    None where it is nothing and begins none.
    """
    lexicon = _lexicon()
    alone = [section for end in range(2, len(word) + 1) for section in lexicon.openings.get(word[:end], ())]
    terms = lexicon.first.get(word, ())
    alone += [term.section for term in terms if not term.rest]
    second: dict[str, list[_Term]] = {}
    opened = []
    for term in terms:
        if len(term.rest) == 1 and term.open_end:
            opened.append(term)
        elif term.rest:
            second.setdefault(term.rest[0], []).append(term)
    return (tuple(dict.fromkeys(alone)), second, tuple(opened)) if alone or second or opened else None


@lru_cache(maxsize=50_000)
def _seen(token: str) -> tuple[str, ...]:
    """The word of the lexicon that `token` stands for, where there is one; else the words that it is made of."""
    forms = [token, *(token.translate(letters) for letters in _LEET)]
    if 0 < (gaps := token.count("*")) <= 2:
        pieces = forms[1].split("*")
        forms += ["".join(p + v for p, v in zip(pieces, (*vowels, ""), strict=True)) for vowels in product("aeiou", repeat=gaps)]
    if _REPEATED.search(token):
        forms += [_REPEATED.sub(times, form) for form in forms[:2] for times in (r"\1", r"\1\1")]
    for form in forms:
        if not form.isdigit() and _of_word(form) is not None:
            return (form,)
    return tuple(_PARTS.findall(token))


def words_of(text: str) -> list[str]:
    """The words of `text`, which is in lower case."""
    joined = _lexicon().joined
    stretched = not text.isascii() or _LETTER_REPEATED.search(text) is not None
    tokens: list[str] = [] if stretched or _SIGNED.search(text) else _SIMPLE.findall(text)
    # No letters set apart without letters alone.
    lengths = list(map(len, tokens))
    if not tokens or lengths.count(1) > 2:
        tokens = _TOKEN.findall(_APART.sub(_together, text))
        lengths = list(map(len, tokens))
    odd = "".join([token for token in tokens if not token.isalpha()])
    plain = not odd or odd.isdigit()
    if plain and not stretched and joined.keys().isdisjoint(tokens) and max(lengths, default=0) <= _LONGEST_WORD:
        return tokens  # Nothing hides, as in most text.
    words: list[str] = []
    for token in tokens:
        if len(token) > _LONGEST_WORD:
            words += [part[:_LONGEST_WORD] for part in _PARTS.findall(token)]
        elif not token.isalpha() or (stretched and _REPEATED.search(token)):
            # With more than two digits for each letter, or long with several of them, it is a number or a code.
            digits = len(_DIGITS.findall(token))
            coded = 3 * digits > 2 * len(token) or (digits > 3 and len(token) > _LONGEST_HIDDEN)
            words += (token,) if coded else _seen(token)
        elif token in joined:
            words += joined[token]
        else:
            words.append(token)
    return words


def _together(letters: re.Match[str]) -> str:
    return re.sub(r"[\W_]", "", letters.group())


def find(words: list[str]) -> list[Hit]:
    """Every term of the lexicon in `words`, by place."""
    hits: list[Hit] = []
    for place, word in enumerate(words):
        known = _of_word(word)
        if known is None:
            continue
        alone, second, opened = known
        if alone:
            hits += [Hit(place, word, section) for section in alone]
        if place + 1 == len(words):
            break
        following = words[place + 1]
        if following in second:
            hits += [Hit(place, term.term, term.section) for term in second[following] if _follows(words, place + 1, term)]
        if opened:
            hits += [Hit(place, term.term, term.section) for term in opened if following.startswith(term.rest[0])]
    return hits


def _follows(words: list[str], start: int, term: _Term) -> bool:
    """Do the words from `start` on end `term`."""
    last = start + len(term.rest) - 1
    if last >= len(words) or tuple(words[start:last]) != term.rest[:-1]:
        return False
    return words[last].startswith(term.rest[-1]) if term.open_end else words[last] == term.rest[-1]
