"""The parts that addresses are made of: words, numbers and line ends, names of streets and towns, flats, postal codes.

Functions take all parts of a text and the number of one, and return the number of the part behind what they recognise there; that
number itself, 0 or None says that they don't. Each looks at a bounded number of parts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pipeline.ner import words

MAX_WORDS: Final = 5
MAX_PARTICLES: Final = 3
_TOKEN = re.compile(r"\r?\n|[0-9]+(?:[-/][0-9]+){0,3}[a-zA-Z]?(?![^\W_])|[^\W_](?:[\w'’]|-(?![0-9]))*|[^\w\s]")
_CODE = re.compile(r"[0-9]{4,6}|[0-9]{2}-[0-9]{3}|[0-9]{5}-[0-9]{3}|[0-9]{4}-[0-9]{3}|[0-9]{4}[A-Z]{2}|[0-9]{8}")
_STREET_WORDS = words.STREETS_ALONE | words.STREETS_BEFORE | words.STREETS_BEHIND_NUMBERED


class Token(NamedTuple):
    """One part of a text: characters [start, end), as written and in small letters."""

    kind: str  # "n" number, "w" word, "l" line end, "p" another sign
    start: int
    end: int
    text: str
    low: str


def tokens_of(text: str) -> list[Token]:
    """All parts of `text` but its spaces."""
    made = []
    for match in _TOKEN.finditer(text):
        written = match.group()
        first = written[0]
        kind = "l" if first in "\r\n" else "w" if first.isalpha() else "p"
        if first.isdigit():
            kind = (
                "n" if first.isascii() and written[-1].isalnum() and len(written) <= 12 and sum(c.isalpha() for c in written) <= 1 else "w"
            )
        made.append(Token(kind, match.start(), match.end(), written, written.lower()))
    return made


def start_of(token: Token) -> int:
    """Where it stands: the key to search by."""
    return token.start


def is_capital(token: Token) -> bool:
    """A word that is not written small, nor only because it begins a sentence."""
    return token.kind == "w" and not token.text[0].islower() and token.low not in words.FUNCTION_WORDS


def is_house(token: Token) -> bool:
    """A number that a house may have."""
    return token.kind == "n" and len(token.text) <= 6


def token_at(tokens: list[Token], number: int) -> Token | None:
    """The part of that number; None where there is none."""
    return tokens[number] if 0 <= number < len(tokens) else None


def name_end(tokens: list[Token], first: int, most: int = MAX_WORDS) -> int:
    """Behind the words of a name that begins at `first`: capitals, small words between them, full stops of abbreviations."""
    at, end, count = first, first, 0
    while at < len(tokens) and count < most and at - end <= MAX_PARTICLES:
        token = tokens[at]
        if is_capital(token) or (token.kind == "w" and token.low in _STREET_WORDS):
            end, count = at + 1, count + 1
        elif not (token.kind == "w" and token.low in words.PARTICLES):
            break
        at += 1
        after = token_at(tokens, at)
        # "St. John", "ul. Polna": a full stop right behind a short word belongs to it.
        if after is not None and after.text == "." and after.start == token.end and len(token.text) <= 5 and at + 1 < len(tokens):
            at += 1
            end = at if end == at - 1 else end
    return end


def over(tokens: list[Token], at: int) -> int:
    """Beyond a comma or a line's end, and the sign that marks quoted lines."""
    while at < len(tokens) and (tokens[at].kind == "l" or tokens[at].text in (",", ">")):
        at += 1
    return at


def divides(token: Token) -> bool:
    """A comma or a line's end."""
    return token.kind == "l" or token.text == ","


def house_end(tokens: list[Token], at: int) -> int:
    """Behind a house number at `at`, for which a comma or "Nr." may prepare; 0 where there is none."""
    while at < len(tokens) and tokens[at].low in (",", "nr", "no", "nº", "n°", "n", ".", "č"):
        at += 1
    number = token_at(tokens, at)
    return at + 1 if number is not None and is_house(number) else 0


def code_end(tokens: list[Token], at: int) -> int:
    """Behind a postal code at `at`; 0 where there is none."""
    token, behind = token_at(tokens, at), token_at(tokens, at + 1)
    if token is None:
        return 0
    if _CODE.fullmatch(token.text):
        return at + 1
    grouped = len(token.text) == 3 and behind is not None and len(behind.text) == 2 and behind.start == token.end + 1
    return at + 2 if grouped and token.text.isdigit() and behind is not None and behind.text.isdigit() else 0


def unit_end(tokens: list[Token], at: int, alone: bool = False, within: bool = False) -> tuple[int, float] | None:
    """ "Apt. 12", "P.O. Box 77", "Unit 3 Box 5": behind it, and how sure it is where nothing else is an address (`alone`).

    `within`: it belongs to another, so none is looked for in it.
    """
    token = token_at(tokens, at)
    if token is None or token.kind != "w":
        return None
    if token.low in words.MILITARY:
        area, code = token_at(tokens, at + 1), token_at(tokens, at + 2)
        if area is not None and area.low in ("aa", "ae", "ap") and code is not None and code.kind == "n" and len(code.text) >= 5:
            return at + 3, 0.9
        return None
    post = token.low == "po" or [t.low for t in tokens[at : at + 4]] == ["p", ".", "o", "."]
    if post:
        at += 1 if token.low == "po" else 4
        token = token_at(tokens, at)
        if token is None or token.low != "box":
            return None
    elif token.low not in words.UNITS:
        return None
    number = at + 1
    while number < len(tokens) and number <= at + 2 and tokens[number].text in (".", "#", "No", "no", ":"):
        number += 1
    value = token_at(tokens, number)
    if value is None or not (value.kind == "n" or (len(value.text) == 1 and is_capital(value))) or value.start - token.end > 4:
        return None
    further = unit_end(tokens, over(tokens, number + 1), within=True) if token.low in ("unit", "psc", "cmr") and not within else None
    if further is not None:
        return further[0], 0.9
    if not alone or post:
        return number + 1, 0.8
    sure = token.low in ("apt", "apartment", "suite", "postbox", "postfach", "apartado", "psc", "cmr") and value.kind == "n"
    return (number + 1, 0.6) if sure else None
