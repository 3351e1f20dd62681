"""Personal data in all texts of one body at once: every reading of each text, and what is split over texts that follow each other.

Spans come back in the positions of the texts as they came. A value split over texts gives one span in each. Pure; never fails; linear in
the size of the texts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.pii.labels import REACH
from pipeline.core.pii.normalise import readings
from pipeline.core.pii.patterns import scan as scan_default
from pipeline.core.pii_entities import CREDIT_CARD, DEFAULT_ENTITIES, EMAIL_ADDRESS, PHONE_NUMBER, US_BANK_NUMBER, US_SSN

DEFAULT_THRESHOLD = 0.4
# How much of a text's beginning and end is looked at together with its neighbour's. The longest value of the default set that a
# person writes, an IBAN in groups, has 42 characters; twice that leaves room for the label before it.
EDGE = 96

LABELLED = frozenset({CREDIT_CARD, PHONE_NUMBER, US_BANK_NUMBER, US_SSN})

_Found = tuple[int, int, str, float]


@dataclass(frozen=True, slots=True, order=True)
class PiiSpan:
    """Characters [start, end) of text number `text`, what they are (Presidio's entity names), how sure that is (0 to 1)."""

    text: int
    start: int
    end: int
    entity: str
    score: float


def detect(
    texts: Sequence[str],
    entities: frozenset[str] | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    sequences: Iterable[Sequence[int]] | None = None,
) -> list[PiiSpan]:
    """Personal data in `texts`, in order of place; none overlaps another of its own entity.

    `entities` narrows the default set (None: all of it; names outside it are passed over here: see pipeline/ner). What scores below
    `threshold` is left out. `sequences` says in which orders texts are read after each other, by their numbers, so that values split
    over neighbours are found; None: in the order given.
    """
    wanted = DEFAULT_ENTITIES if entities is None else entities & DEFAULT_ENTITIES
    if not wanted:
        return []
    spans = [
        PiiSpan(number, start, end, entity, score)
        for number, text in enumerate(texts)
        for start, end, entity, score in _alone(text, wanted)
        if score >= threshold
    ]
    if len(texts) > 1:
        for sequence in [range(len(texts))] if sequences is None else sequences:
            spans.extend(_split(texts, sequence, wanted, threshold, spans))
    return resolved(spans)


def _alone(text: str, wanted: frozenset[str]) -> list[_Found]:
    """What stands in one text, in its own positions."""
    if len(text) < 3:
        return []
    found: list[_Found] = []
    for reading in readings(text):
        for start, end, entity, score in scan_default(reading.text, wanted):
            found.append((*reading.origin(start, end), entity, score))
    return found


def _split(texts: Sequence[str], sequence: Sequence[int], wanted: frozenset[str], threshold: float, known: list[PiiSpan]) -> list[PiiSpan]:
    """What begins in one text of the sequence and ends in a later one."""
    whole: dict[tuple[int, str], list[PiiSpan]] = {}
    for span in known:
        whole.setdefault((span.text, span.entity), []).append(span)
    found: list[PiiSpan] = []
    run: list[tuple[int, int, str]] = []  # Number of the text, where in it this piece begins, the piece.
    for number in sequence:
        text = texts[number]
        if not text:
            continue
        if len(text) <= 2 * EDGE:
            run.append((number, 0, text))
            continue
        run.append((number, 0, text[:EDGE]))
        found.extend(_across(run, wanted, threshold, whole))
        run = [(number, len(text) - EDGE, text[-EDGE:])]
    found.extend(_across(run, wanted, threshold, whole))
    return found


def _across(
    run: list[tuple[int, int, str]], wanted: frozenset[str], threshold: float, whole: dict[tuple[int, str], list[PiiSpan]]
) -> list[PiiSpan]:
    if len(run) < 2:
        return []
    joined = "".join([piece for _, _, piece in run])
    starts = [0]
    for _, _, piece in run:
        starts.append(starts[-1] + len(piece))
    joints = starts[1:-1]
    spans: list[PiiSpan] = []
    for reading in readings(joined):
        places = frozenset(joints) if reading.text is joined else frozenset(_places_in(reading.text, reading.origin, joints))
        for first, last, entity, score in scan_default(reading.text, wanted, places):
            start, end = reading.origin(first, last)
            # The label of a number may stand in the text before it ("What is your account number?").
            reach = REACH if entity in LABELLED else 0
            next_joint = bisect_right(joints, start - reach)
            if score < threshold or next_joint == len(joints) or joints[next_joint] >= end:
                continue
            parts = []
            for place in range(bisect_right(starts, start) - 1, bisect_left(starts, end)):
                (number, offset, _), a, b = run[place], starts[place], starts[place + 1]
                if start < b and a < end:
                    parts.append(PiiSpan(number, offset + max(start, a) - a, offset + min(end, b) - a, entity, score))
            if entity != EMAIL_ADDRESS or _is_split_email(joined, start, end, joints, parts, whole):
                spans.extend(parts)
    return spans


def _places_in(text: str, origin: object, joints: list[int]) -> list[int]:
    """Where in a reading the joints of what was read stand."""
    assert callable(origin)
    places: list[int] = []
    for joint in joints:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high) // 2
            if origin(middle, middle + 1)[0] < joint:
                low = middle + 1
            else:
                high = middle
        places.append(low)
    return places


def _is_split_email(
    joined: str, start: int, end: int, joints: list[int], parts: list[PiiSpan], whole: dict[tuple[int, str], list[PiiSpan]]
) -> bool:
    """An address that is whole in one text is not split: the word before it only happens to end the text before.

    Where what stands at the joint can't begin an address, or what stands before it looks like a part of one, it is.
    """
    if not any(
        known.start >= part.start and known.end <= part.end for part in parts for known in whole.get((part.text, EMAIL_ADDRESS), ())
    ):
        return True
    first = joints[bisect_right(joints, start)]
    return joined[first] in "._+-'" or any(sign in joined[start:first] for sign in "@._+")


def resolved(spans: Iterable[PiiSpan]) -> list[PiiSpan]:
    """Spans in order, each place once: what lies within a surer or longer span is left out, overlaps of one entity become one span."""
    kept: list[PiiSpan] = []
    for span in sorted(set(spans), key=lambda s: (s.text, s.start, -s.end, -s.score)):
        last = kept[-1] if kept and kept[-1].text == span.text and kept[-1].end > span.start else None
        if last is None:
            kept.append(span)
        elif span.entity == last.entity:
            kept[-1] = PiiSpan(last.text, last.start, max(last.end, span.end), last.entity, max(last.score, span.score))
        elif span.start == last.start and span.end == last.end:
            kept[-1] = max(last, span, key=lambda s: s.score)
        elif span.end > last.end:
            kept.append(span)
    return kept
