"""What remains where findings contradict each other: a place belongs to one entity. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple


class Result(NamedTuple):
    """Characters [start, end), what they are, how sure that is (0 to 1)."""

    start: int
    end: int
    entity: str
    score: float


_WORD = re.compile(r"[^\W\d_][\w'’\-]*")


def repeated(text: str, found: list[Result]) -> list[Result]:
    """Persons found in `text` again where only a part of the name stands: "Alice Johnson ... Johnson said"."""
    known = {
        word
        for result in found
        if result.entity == "PERSON"
        for word in _WORD.findall(text[result.start : result.end])
        if len(word) >= 3 and word[0].isupper()
    }
    if not known:
        return []
    taken = bytearray(len(text))
    for result in found:
        taken[result.start : result.end] = b"\1" * (result.end - result.start)
    made: list[Result] = []
    for match in _WORD.finditer(text):
        written = re.sub(r"['’]s?\Z", "", match.group())
        end = match.start() + len(written)
        if written in known and not any(taken[match.start() : end]):
            if made and text[made[-1].end : match.start()] == " ":
                made[-1] = Result(made[-1].start, end, "PERSON", 0.6)
            else:
                made.append(Result(match.start(), end, "PERSON", 0.6))
    return made


def settled(text: str, results: list[Result]) -> list[Result]:
    """`results` in order of place; of two that share characters the surer stays, else the longer."""
    kept: list[Result] = []
    taken = bytearray(len(text))
    for result in sorted(results, key=lambda r: (-r.score, r.start - r.end)):
        if not any(taken[result.start : result.end]):
            kept.append(result)
            taken[result.start : result.end] = b"\1" * (result.end - result.start)
    return sorted(kept)
