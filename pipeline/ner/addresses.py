"""Postal addresses of many countries, as a recognizer for Presidio: a street with its number, and what follows it up to the country.

    1. Anchors: a street's type beside a name and a number, a numbered flat or box, a military post office, a postal code of a form of
       its own, or a number behind words that announce an address ("lives at").
    2. From there to the right: flat, town, region, postal code, country, over commas and lines.

Works on words, numbers and line ends, each looked at a bounded number of times. Finds nothing in words alone: a town that stands by
itself is the language model's to find.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from presidio_analyzer import EntityRecognizer, RecognizerResult

from pipeline.ner import words
from pipeline.ner.address_parts import (
    MAX_WORDS,
    Token,
    code_end,
    divides,
    house_end,
    is_capital,
    is_house,
    name_end,
    over,
    start_of,
    token_at,
    tokens_of,
    unit_end,
)

ENTITY: Final = "LOCATION"
# How far an address reaches beyond its anchor.
MAX_PARTS: Final = 8
MAX_LINES: Final = 5

_POSTAL = re.compile(
    r"""\b(?:[A-Z]{1,2}[0-9][0-9A-Z]?[ ][0-9][A-Z]{2}           # United Kingdom
        |[ABCEGHJ-NPRSTVXY][0-9][A-Z][ -]?[0-9][A-Z][0-9]       # Canada
        |[A-Z]{2}[ ][0-9]{5}(?:-[0-9]{4})?                      # a state or province, and the code
        |[0-9]{5}-[0-9]{4})\b""",
    re.VERBOSE,
)
_ANNOUNCED = re.compile(
    r"""\b(?:address(?:es)?(?:[ ](?:is|are|to|with))?|(?:live|lives|lived|living|reside|resides|located|arrived|meet|stay|staying
      |home)[ ](?:at|in|on)
        |(?:office|offices|house|home|shop|store|restaurant|hotel|headquarters)[ ](?:is|are)(?:[ ]located)?[ ](?:at|in|on)
        |(?:return|deliver|delivered|ship|shipped|mail|send|taxi|cab|uber|moved|move|came|one|it|them|parcel|package|bill|letter)[ ]to
        |in[ ]front[ ]of)\b:?[ ]{0,2}""",
    re.VERBOSE | re.IGNORECASE,
)
_CORNER = re.compile(r"\bcorner of[ ]", re.IGNORECASE)


class AddressRecognizer(EntityRecognizer):  # type: ignore[misc]
    """Presidio's interface to `addresses`."""

    def __init__(self) -> None:
        super().__init__(supported_entities=[ENTITY], name="AddressRecognizer", supported_language="en")

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        if ENTITY not in entities:
            return []
        return [RecognizerResult(ENTITY, start, end, score) for start, end, score in addresses(text)]


def addresses(text: str) -> list[tuple[int, int, float]]:
    """Start, end and score of the addresses in `text`, in order; none touches another."""
    tokens = tokens_of(text)
    by_start = {token.start: number for number, token in enumerate(tokens)}
    anchors = sorted([*_anchors(tokens), *_announced(text, tokens, by_start), *_postal(text, tokens)])
    made: list[tuple[int, int, float]] = []
    for first, last, score in anchors:
        if made and first < made[-1][1]:
            end = _extended(tokens, last) if last > made[-1][1] else made[-1][1]
            made[-1] = (made[-1][0], end, max(score, made[-1][2]))
            continue
        made.append((first, _extended(tokens, last), score))
    return [(tokens[first].start, tokens[last - 1].end, score) for first, last, score in made]


def _anchors(tokens: list[Token]) -> Iterator[tuple[int, int, float]]:
    at = 0
    while at < len(tokens):
        found = _before_code(tokens, at) or _street_numbered(tokens, at) or _street(tokens, at) or unit_end(tokens, at, alone=True)
        if found is None:
            at += 1
            continue
        yield at, found[0], found[1]
        at = max(found[0], at + 1)


def _street_numbered(tokens: list[Token], at: int) -> tuple[int, float] | None:
    """ "12 Crown Street", "638 2229 Wolmarans St", "6570 Rue de Paris 18"; a number first."""
    if not is_house(tokens[at]) or (at and tokens[at - 1].text in "$€£#:" and tokens[at - 1].end == tokens[at].start):
        return None
    if at and tokens[at - 1].low in words.NUMBERED:
        return None
    first = at + 1
    second, third = token_at(tokens, first), token_at(tokens, first + 1)
    comma = second is not None and second.text == "," and third is not None and third.low in words.STREETS_BEFORE
    if comma or (second is not None and is_house(second)):
        first += 1
    end = name_end(tokens, first)
    if end == first:
        return None
    names = [token for token in tokens[first:end] if token.kind == "w"]
    if names[0].low in words.MONTHS or (len(names) == 1 and names[0].low in words.WEEKDAYS):
        return None
    score = 0.0
    if names[0].low in words.STREETS_BEFORE and len(names) > 1 or any(_is_street(token) for token in names[1:]):
        score = 0.9
    elif any(token.low.endswith(words.STREET_ENDINGS) and len(token.low) >= 6 for token in names):
        score = 0.89
    behind = token_at(tokens, end)
    if behind is not None and is_house(behind) and behind.start - tokens[end - 1].end <= 2:
        end += 1
        after = token_at(tokens, end)
        score = max(score, 0.6 if after is None or after.kind in "lp" or unit_end(tokens, end) else 0.45)
    unit = unit_end(tokens, over(tokens, end))
    if unit is not None:
        return unit[0], 0.9
    if not score and first == at + 2:
        score = 0.4
    if not score and _own_line(tokens, at, end):
        score = 0.5
    return (end, score) if score else None


def _before_code(tokens: list[Token], at: int) -> tuple[int, float] | None:
    """ "Plánická 10, 724 21 Benešov", "10, Sawhney Ganj, Anantapur 441800": any name and number, then a postal code beside a town."""
    if is_house(tokens[at]):
        return _number_to_code(tokens, at)
    if not is_capital(tokens[at]):
        return None
    house = house_end(tokens, name_end(tokens, at))
    if not house or house >= len(tokens) or not divides(tokens[house]):
        return None
    place = over(tokens, house)
    code = code_end(tokens, place)
    if not code:
        # A part of the town may stand between them.
        quarter = name_end(tokens, place)
        if quarter == place or quarter >= len(tokens) or not divides(tokens[quarter]):
            return None
        code = code_end(tokens, over(tokens, quarter))
    town = over(tokens, code) if code else 0
    if not code or town >= len(tokens) or not (is_capital(tokens[town]) or tokens[town].low in words.PARTICLES):
        return None
    return max(name_end(tokens, town), code), 0.9


def _number_to_code(tokens: list[Token], at: int) -> tuple[int, float] | None:
    """The number of a house, one to four names with commas or line ends between them, and a code behind the last."""
    place = over(tokens, at + 1) if at + 1 < len(tokens) else at + 1
    for _ in range(4):
        end = name_end(tokens, place)
        if end == place:
            return None
        behind = over(tokens, end)
        behind += behind < len(tokens) and tokens[behind].text == "-"
        code = code_end(tokens, behind)
        if code and not (re.fullmatch("(?:19|20)[0-9]{2}", tokens[behind].text) and not re.fullmatch("[A-Z]{2,3}", tokens[end - 1].text)):
            return code, 0.9
        if end >= len(tokens) or not divides(tokens[end]):
            return None
        place = over(tokens, end)
    return None


def _is_street(token: Token) -> bool:
    return (token.low in words.STREETS_BEHIND and (is_capital(token) or token.low in words.STREETS_ALONE)) or (
        token.low in words.STREETS_BEHIND_NUMBERED
    )


def _own_line(tokens: list[Token], first: int, last: int) -> bool:
    """Do tokens[first:last] stand on a line of their own, with others before or behind that look like those of an address."""
    before, behind = token_at(tokens, first - 1), token_at(tokens, last)
    starts = before is None or before.kind == "l" or (before.text == ">" and first >= 2 and tokens[first - 2].kind == "l")
    if not starts or behind is None or behind.kind != "l":
        return False
    after = over(tokens, last)
    return unit_end(tokens, after) is not None or (after < len(tokens) and is_capital(tokens[after]))


def _street(tokens: list[Token], at: int) -> tuple[int, float] | None:
    """ "ul. Polna 3", "Puruntie 82", "Crown Street": a name first."""
    token = tokens[at]
    if token.kind != "w":
        return None
    behind = token_at(tokens, at + 1)
    if token.low in words.STREETS_BEFORE:
        first = at + 1 + (behind is not None and behind.text == "." and behind.start == token.end)
        end = name_end(tokens, first, 4)
        numbered = house_end(tokens, end)
        if end > first and numbered:
            return numbered, 0.9
        if end > first and token.low != "via" and (is_capital(token) or token.low in ("rue", "ul", "calle", "rua")):
            return end, 0.5
        return None
    if not is_capital(token):
        return None
    end = name_end(tokens, at, 5)
    run = tokens[at:end]
    number = token_at(tokens, end)
    if number is not None and is_house(number) and len(number.text) <= 4:
        if any(t.low.endswith(words.STREET_ENDINGS_SURE) and len(t.low) >= 7 for t in run):
            return end + 1, 0.89
        if len(run) > 1 and any(t.low in words.STREETS_BEHIND_NUMBERED for t in run[1:]):
            return end + 1, 0.89
    for place in range(1, len(run)):
        if run[place].low in words.STREETS_ALONE and is_capital(run[place]) and run[place].text != "St" and run[place - 1].kind == "w":
            return at + place + 1, 0.6
    return None


def _announced(text: str, tokens: list[Token], by_start: dict[int, int]) -> Iterator[tuple[int, int, float]]:
    """What follows words that announce an address, where it has a number among its first words; two streets that meet."""
    for match in _ANNOUNCED.finditer(text):
        first = by_start.get(match.end())
        if first is None:
            continue
        first = over(tokens, first)
        at, count = first, 0
        while at < len(tokens) and count <= MAX_WORDS:
            token = tokens[at]
            if is_house(token) and (at > first or _named(tokens, at + 1)):
                if at > first or count:
                    yield first, at + 1, 0.87
                else:
                    yield first, max(name_end(tokens, at + 1), at + 1), 0.87
                break
            if not (is_capital(token) or token.text == "." or (at > first and token.low in words.PARTICLES)):
                break
            at, count = at + 1, count + 1
    for match in _CORNER.finditer(text):
        first = by_start.get(match.end())
        if first is not None:
            end = _corner(tokens, first)
            joint = end + (end < len(tokens) and tokens[end].text == ".")
            if joint < len(tokens) and tokens[joint].low in ("and", "&"):
                yield first, max(end, _corner(tokens, joint + 1)), 0.9


def _named(tokens: list[Token], at: int) -> bool:
    """Is there a name at `at`, or another number with a name behind it."""
    token = token_at(tokens, at)
    if token is not None and is_house(token):
        token = token_at(tokens, at + 1)
    return token is not None and is_capital(token) and token.low not in words.MONTHS


def _corner(tokens: list[Token], at: int) -> int:
    first = at
    while at < len(tokens) and at < first + 9:
        token = tokens[at]
        street = token.low in words.STREETS_ALONE or token.low in words.STREETS_BEFORE
        part = is_capital(token) or token.kind == "n" or token.text == "." or token.low in words.PARTICLES
        if token.low in ("and", "&") or not (street or part):
            break
        at += 1
    while at > first and tokens[at - 1].text == ".":
        at -= 1
    return at


def _postal(text: str, tokens: list[Token]) -> Iterator[tuple[int, int, float]]:
    for match in _POSTAL.finditer(text):
        first = bisect_left(tokens, match.start(), key=start_of)
        last = bisect_left(tokens, match.end(), key=start_of)
        if first < last:
            yield first, last, 0.87


def _extended(tokens: list[Token], end: int) -> int:
    """Behind the flat, town, region, postal code and country that follow an address which so far ends at `end`."""
    lines = 0
    for _ in range(MAX_PARTS):
        at = end
        seen = 0
        if at < len(tokens) and tokens[at].text == "." and tokens[at].start == tokens[at - 1].end:
            # A full stop ends it, unless it belongs to an abbreviation ("Str., Klirou").
            after = token_at(tokens, at + 1)
            if after is None or not (after.text == "," or after.kind == "l" or unit_end(tokens, at + 1)):
                return end
            at += 1
        while at < len(tokens) and (tokens[at].kind == "l" or tokens[at].text in (",", ">", "-", "(")):
            seen += tokens[at].kind == "l"
            at += 1
        if at >= len(tokens) or seen > 2:
            return end
        part = _part(tokens, at, seen > 0)
        if part == at or (seen == 2 and not _is_last_line(tokens, at, part)):
            return end
        lines += seen > 0
        if lines > MAX_LINES:
            return end
        end = part
    return end


def _is_last_line(tokens: list[Token], first: int, last: int) -> bool:
    """A part behind an empty line belongs to the address only where it names a country or holds a code."""
    written = " ".join(token.low for token in tokens[first:last] if token.kind == "w")
    return written in words.COUNTRIES


def _part(tokens: list[Token], at: int, line: bool) -> int:
    """Behind the part of an address that begins at `at`; `at` itself where there is none. `line`: it begins a line."""
    unit = unit_end(tokens, at)
    if unit is not None:
        return unit[0]
    token = tokens[at]
    code = code_end(tokens, at)
    if token.kind == "n" and not code:
        return _code(tokens, at, line)
    if code:
        town = code + (code < len(tokens) and tokens[code].text == ",")
        name = name_end(tokens, town)
        return name if name > town else _code(tokens, at, line) if token.kind == "n" else code
    end = name_end(tokens, at)
    if end == at:
        return at
    behind = token_at(tokens, end)
    if line:
        # A line of a letter's head is short, and is neither "Phone: ..." nor an e-mail address or a sentence.
        if behind is not None and (behind.text in (":", "@") or (behind.kind == "w" and not is_capital(behind))):
            return at
    elif tokens[at - 1].text not in (",", "(") and behind is not None and behind.text in (":", "@"):
        return at
    if behind is not None and behind.kind == "n" and behind.start - tokens[end - 1].end <= 2:
        code = _code(tokens, end, False)
        return max(code, end)
    if behind is not None and behind.text == ")":
        return end + 1
    return end


def _code(tokens: list[Token], at: int, line: bool) -> int:
    """Behind a postal code at `at`: three to six digits, or five in two groups; `at` where it is none."""
    token = tokens[at]
    digits = sum(c.isdigit() for c in token.text)
    if not 2 <= digits <= 9 or len(token.text) > 10:
        return at
    end = at + 1
    behind = token_at(tokens, end)
    if digits == 3 and behind is not None and behind.kind == "n" and len(behind.text) == 2 and behind.start - token.end == 1:
        end, digits = end + 1, 5
        behind = token_at(tokens, end)
    # What goes on with digits or signs of their kind is a telephone or a sum.
    if behind is not None and (behind.kind == "n" or behind.text in "-/%:") and behind.start - tokens[end - 1].end <= 1:
        return at
    if line and digits < 3:
        return at
    return end
