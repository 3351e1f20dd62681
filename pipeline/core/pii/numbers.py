"""Numbers in digits: cards, social security and bank account numbers, telephones.

One linear search finds chains of digits with whatever stands between them; everything else looks only at those. A chain is judged as a
whole first and by its groups then, so that separators put inside a number don't hide it. Pure; never fails.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from pipeline.core.pii import checks, labels
from pipeline.core.pii_entities import CREDIT_CARD, PHONE_NUMBER, US_BANK_NUMBER, US_SSN


class Found(NamedTuple):
    """A finding in one text: characters [start, end), what it is, and how sure that is (0 to 1)."""

    start: int
    end: int
    entity: str
    score: float


# Seven digits or more, at most three other characters between two of them.
_CHAIN = re.compile(r"[0-9](?:[\W_]{0,3}[0-9]){6,}")
_GROUP = re.compile(r"[0-9]+")
# Between the groups of one number as people write it; anything else divides a chain for all but cards.
_WITHIN = re.compile(r"[ \t\u00a0]?[.\-/]?[ \t\u00a0]?|[ ]?[()][ ]?-?|[)][-/. ]{0,2}[(]?|[_*]")
# Between two numbers rather than within one: lines, lists, times.
_DIVIDES = re.compile(r"[\r\n:;,|]")
_BEGIN = re.compile(r"(?:\+[ ]?(?:\(?[ ]?)|\()\Z")
_EXTENSION = re.compile(r"[ ,;]{0,2}(?:x|ext\.?|extn\.?|extension|#)[ .:]{0,2}[0-9]{1,6}(?![0-9])", re.IGNORECASE)
_DATE = re.compile(
    r"""(?:(?:19|20)\d\d([.\-/ ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])
       |(?:0?[1-9]|[12]\d|3[01])([.\-/ ])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d)(?![0-9])""",
    re.VERBOSE,
)
_CARD_GROUPS = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 1), (4, 4, 4, 4, 3), (6, 13), (4, 4, 5), (8, 8)})

# Forms that are telephones without a word that says so.
_NANP = re.compile(r"(?:1[ .\-]?)?(?:\([2-9][0-9]{2}\)[ .\-]?|[2-9][0-9]{2}([ .\-]))[2-9][0-9]{2}[ .\-][0-9]{4}")
_NANP_TIGHT = re.compile(r"(?:1[.\-])?[2-9][0-9]{2}([.\-])[0-9]{3}\1[0-9]{4}")
_AREA = re.compile(r"\((?!(?:19|20)[0-9]{2}\))[0-9]{2,5}\)[ \-]{0,2}[0-9]{2,4}(?:[ \-][0-9]{2,4}){1,3}")
_TRUNK = re.compile(r"0[1-9][0-9]{0,3}(?:([ .\-])[0-9]{2,4}(?:\1[0-9]{2,4}){1,3}|/[ ]?[0-9]{2,4}(?:[ .\-][0-9]{2,4}){1,3})")
# The same with other signs between its groups.
_TRUNK_MIXED = re.compile(r"(?:\(0[1-9][0-9]{1,4}\)[ /\-]{0,2}|0[1-9][0-9]{0,4}[ ]?[/\-][ ]?)[0-9]{3,8}(?:[ \-][0-9]{2,4}){0,3}")
# The same within a longer chain, and numbers of other lengths that spaces set apart.
_FORMS = re.compile(
    r"""(?<![0-9])(?:(?:1[.\-])?[2-9][0-9]{2}([.\-])[0-9]{3}\1[0-9]{4}|\([2-9][0-9]{2}\)[ .\-]?[0-9]{3}[ .\-][0-9]{4}
        |[0-9]{3}([.\- ])[0-9]{2}\2[0-9]{4}|0[1-9](?:[ .\-][0-9]{2}){4}|0[1-9][0-9]{0,3}([ .\-])[0-9]{3,4}\3[0-9]{3,4})(?![0-9])""",
    re.VERBOSE,
)


class _Chain(NamedTuple):
    start: int
    end: int
    groups: list[tuple[int, int]]


def numbers(text: str, wanted: frozenset[str], joints: frozenset[int], known: list[Found]) -> Iterator[Found]:
    """Findings of the `wanted` entities in `text`; at `joints` a number may end although a letter or digit follows.

    `known`: what has been found already (addresses, IBANs); digits in there belong to no number.
    """
    others = bool(wanted & {US_SSN, US_BANK_NUMBER, PHONE_NUMBER})
    previous_end, previous_label = 0, None
    spoken_for = sorted((found.start, found.end) for found in known)
    for match in _CHAIN.finditer(text):
        start, end = match.span()
        groups = [m.span() for m in _GROUP.finditer(text, start, end)]
        cards = list(_cards(text, groups, joints, previous_end)) if CREDIT_CARD in wanted else []
        yield from cards
        if not others:
            previous_end = end
            continue
        for chain in _divided(text, groups, spoken_for, [(card.start, card.end) for card in cards]):
            label = labels.label_before(text, chain.start, previous_end, joints)
            if label is None and previous_end and labels.listed(text, previous_end, chain.start):
                label = previous_label
            judged = [found for found in _judged(text, chain, label, joints, previous_end) if found.entity in wanted]
            yield from judged
            # A short number, a house's or a year's, takes no label away from the next one.
            if judged or _size(chain.groups) >= 5:
                previous_end, previous_label = chain.end, label
        previous_end = max([previous_end, *(card.end for card in cards)])


def _size(groups: list[tuple[int, int]]) -> int:
    return sum(b - a for a, b in groups)


def _bounded(text: str, start: int, end: int, joints: frozenset[int]) -> bool:
    before = (
        start == 0
        or start in joints
        or not (text[start - 1].isalnum() or (text[start - 1] == "." and text[start - 2 : start - 1].isdigit()))
    )
    return before and (end >= len(text) or end in joints or not text[end].isalnum())


def _cards(text: str, groups: list[tuple[int, int]], joints: frozenset[int], previous_end: int) -> Iterator[Found]:
    if _size(groups) < 12:
        return
    part = [groups[0]]
    for group in groups[1:]:
        if _DIVIDES.search(text, part[-1][1], group[0]):
            yield from _cards_within(text, part, joints, previous_end)
            part = []
        part.append(group)
    found = list(_cards_within(text, part, joints, previous_end))
    yield from found
    # A card may be written with such separators too, if with the same one all through.
    sizes = tuple(b - a for a, b in groups)
    regular = sum(sizes) <= 19 and (sizes in _CARD_GROUPS or len(set(sizes)) == 1)
    if not found and regular and len(part) < len(groups) and len({text[a[1] : b[0]] for a, b in pairwise(groups)}) == 1:
        whole = _card(text, groups, joints, previous_end)
        if whole is not None:
            yield whole


def _cards_within(text: str, groups: list[tuple[int, int]], joints: frozenset[int], previous_end: int) -> Iterator[Found]:
    size = _size(groups)
    if 12 <= size <= 19:
        found = _card(text, groups, joints, previous_end)
        if found is not None:
            yield found
            return
    if size < 13 or len(groups) == 1:
        return
    at = 0
    while at < len(groups):
        taken = 1
        for width in (1, 3, 4, 5, 2):
            window = groups[at : at + width]
            sizes = tuple(b - a for a, b in window)
            if (sizes in _CARD_GROUPS or (width == 1 and 13 <= sizes[0] <= 19)) and len(window) == width:
                found = _card(text, window, joints, previous_end)
                if found is not None:
                    yield found
                    taken = width
                    break
        at += taken


def _card(text: str, groups: list[tuple[int, int]], joints: frozenset[int], previous_end: int) -> Found | None:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([text[a:b] for a, b in groups])
    # The check digit first: it refuses nine of ten.
    if not checks.luhn(digits) or not _bounded(text, start, end, joints) or len(set(digits)) == 1:
        return None
    if text[start - 1 : start] == "+" and checks.is_international_phone(digits):
        return None
    if checks.is_card(digits) or (labels.label_before(text, start, previous_end, joints) == labels.CARD and checks.is_card(digits, True)):
        return Found(start, end, CREDIT_CARD, 1.0)
    return None


def _divided(text: str, groups: list[tuple[int, int]], *known: list[tuple[int, int]]) -> Iterator[_Chain]:
    """The parts of a chain, those within `known` spans (sorted) left out, that only separators of a written number hold together."""
    part: list[tuple[int, int]] = []
    for group in groups:
        if part and (not _WITHIN.fullmatch(text, part[-1][1], group[0]) or (len(part) == 1 and _counts(text, *part[0]))):
            yield _Chain(part[0][0], part[-1][1], part)
            part = []
        if any(_within(group[0], spans) for spans in known):
            if part:
                yield _Chain(part[0][0], part[-1][1], part)
            part = []
        else:
            part.append(group)
    if part:
        yield _Chain(part[0][0], part[-1][1], part)


def _counts(text: str, start: int, end: int) -> bool:
    """Does text[start:end] only number the line that it begins: "1) 617-555-0142"."""
    if end - start > 2 or text[end : end + 2] not in (") ", ". "):
        return False
    before = text[max(0, start - 8) : start].rpartition("\n")
    return not before[2].strip() and (bool(before[1]) or start < 8)


def _within(position: int, spans: list[tuple[int, int]]) -> bool:
    at = bisect_right(spans, (position, sys.maxsize)) - 1
    return at >= 0 and position < spans[at][1]


def _judged(text: str, chain: _Chain, label: str | None, joints: frozenset[int], low: int) -> Iterator[Found]:
    """What a chain is: one number, else the numbers that its spaces or their own forms make of it."""
    whole = _one(text, chain, label, joints, low)
    if whole is not None:
        yield whole
        return
    if len(chain.groups) == 1 or _size(chain.groups) < 14:
        return
    if _BEGIN.search(text, max(low, chain.start - 4), chain.start):
        for count in range(min(8, len(chain.groups) - 1), 0, -1):
            first, rest = chain.groups[:count], chain.groups[count:]
            found = _one(text, _Chain(chain.start, first[-1][1], first), label, joints, low)
            if found is not None:
                yield found
                yield from _judged(text, _Chain(rest[0][0], chain.end, rest), None, joints, found.end)
                return
    taken = chain.start
    for form in _FORMS.finditer(text, chain.start, chain.end):
        groups = [g for g in chain.groups if form.start() <= g[0] and g[1] <= form.end()]
        found = _one(text, _Chain(form.start(), form.end(), groups), label, joints, low) if groups else None
        if found is not None:
            yield found
            taken = found.end
    if taken > chain.start:
        return
    for group in chain.groups:
        found = _one(text, _Chain(*group, [group]), label, joints, low)
        if found is not None:
            yield found


def _one(text: str, chain: _Chain, label: str | None, joints: frozenset[int], low: int) -> Found | None:
    start, end, groups = chain
    size = _size(groups)
    if not 7 <= size <= 17 or len(groups) > 17:
        return None
    if len(groups) == size:
        apart = _digits_apart(text, chain, label, joints)
        if apart is not None:
            return apart
    extension = _EXTENSION.match(text, end)
    if not _bounded(text, start, end, joints) and not (extension and _bounded(text, start, extension.end(), joints)):
        return None
    digits = "".join([text[a:b] for a, b in groups])
    ssn = _ssn(text, groups, digits, label) if size == 9 else 0.0
    if ssn:
        return Found(start, end, US_SSN, ssn)
    if label == labels.BANK and size >= 8:
        return Found(start, end, US_BANK_NUMBER, 0.7)
    opening = _BEGIN.search(text, max(low, start - 4), start)
    if opening:
        start = opening.start()
    score = _phone(text, start, end, groups, digits, label)
    if score == 0.0:
        return None
    return Found(start, extension.end() if extension else end, PHONE_NUMBER, score)


def _digits_apart(text: str, chain: _Chain, label: str | None, joints: frozenset[int]) -> Found | None:
    """A number whose every digit stands apart, judged as if the spaces in between were not there."""
    written = text[chain.start : chain.end]
    compact = "".join(written.split())
    groups = [m.span() for m in _GROUP.finditer(compact)]
    if len(groups) == len(chain.groups) or not _bounded(text, chain.start, chain.end, joints):
        return None
    found = _one(compact, _Chain(0, len(compact), groups), label, frozenset(), 0)
    return None if found is None else Found(chain.start, chain.end, found.entity, found.score)


def _ssn(text: str, groups: list[tuple[int, int]], digits: str, label: str | None) -> float:
    """How sure it is that nine digits are a social security number; 0 where they are none."""
    if not checks.is_ssn(digits) or label == labels.PHONE:
        return 0.0
    if label == labels.SSN:
        return 0.9
    if [b - a for a, b in groups] != [3, 2, 4]:
        return 0.0
    between = text[groups[0][1] : groups[1][0]]
    if between != text[groups[1][1] : groups[2][0]]:
        return 0.0
    # With dashes the form alone says it; other separators stand in part and order numbers too.
    return 0.8 if between == "-" else 0.0 if label == labels.OTHER else 0.7


def _phone(text: str, start: int, end: int, groups: list[tuple[int, int]], digits: str, label: str | None) -> float:
    """How sure it is that text[start:end] is a telephone number; 0 where it is none."""
    if len(digits) > 15 or len(set(digits)) == 1:
        return 0.0
    called = label == labels.PHONE or (label is None and labels.phone_behind(text, end))
    if text[start] == "+":
        written = digits.replace("00", "", 1) if digits.startswith("00") else digits
        # Plans change and people mistype: what the text calls a telephone need not be in one.
        return 0.8 if checks.is_international_phone(written) else 0.5 if called and len(digits) >= 8 else 0.0
    if text.startswith("00", groups[0][0]) and len(digits) >= 10 and checks.is_international_phone(digits[2:]):
        return 0.75 if label == labels.PHONE or len(groups) > 1 else 0.45
    if _DATE.match(text, groups[0][0]):
        return 0.0
    if called:
        return 0.7 if all(b - a >= 2 for a, b in groups) or len(groups) <= 5 else 0.45
    if label in (labels.CARD, labels.BANK, labels.SSN):
        return 0.0
    # Pairs behind a dash are the rest of a hardware address or of a code.
    if text[start - 1 : start] == "-" and text[start - 2 : start - 1].isalnum() and all(b - a == 2 for a, b in groups):
        return 0.0
    written = text[start:end]
    size = len(digits)
    if _NANP.fullmatch(written) or _NANP_TIGHT.fullmatch(written):
        return 0.3 if label == labels.OTHER else 0.6
    if 9 <= size <= 11 and (_AREA.fullmatch(written) or _TRUNK.fullmatch(written)):
        return 0.25 if label == labels.OTHER else 0.5
    if 9 <= size <= 12 and _TRUNK_MIXED.fullmatch(written):
        return 0.25 if label == labels.OTHER else 0.45
    return 0.2 if label is None and len(groups) <= 5 else 0.0
