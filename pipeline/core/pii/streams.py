"""Personal data in text that arrives piece by piece: what may be released now, and what must wait.

`feed` takes the next piece, cut anywhere, and returns the text that no later piece can turn into a finding; the rest is held back, at most
`HOLD` visible characters of it. All released texts together are what masking the whole text at once would give, but for values longer
than that (an encoded blob): of those, what had already gone out when they could be seen is not called back. Pure; never fails.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from typing import Literal

from pipeline.core.driving import driven
from pipeline.core.pii.detection import DEFAULT_THRESHOLD, PiiSpan, detect
from pipeline.core.pii.labels import BEHIND, REACH
from pipeline.core.pii.masking import MASK, merged
from pipeline.core.pii.normalise import fold_lookalikes, folded
from pipeline.core.pii_entities import DEFAULT_ENTITIES, PHONE_NUMBER

HOLD = 64
# Invisible characters don't count, but not without end.
HOLD_RAW = 4 * HOLD
# What has gone out and is still looked at: the label before a number, and the beginning of what is longer than `HOLD`.
_CONTEXT = REACH + 2 * HOLD
_LONGEST = 512

# What the end of a text may be the beginning of, in its folded reading. Scripts without spaces end a word at every character.
_WORD = r"[^\s\u0e00-\u0eff\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_DOT = r"[ ]?[\[({<][ ]?(?:dot|\.)[ ]?[\])}>][ ]?|[ ]dot[ ]|[ ]?\.[ ]?"
TAILS = {
    "word": re.compile(rf"{_WORD}{{1,{HOLD}}}[ ]?\Z"),
    # Digits with what stands between them, and what opens a number.
    "digits": re.compile(r"(?:\+[ ]?\(?|\()?[0-9](?:[\W_]{0,3}[0-9]){0,40}[\W_]{0,3}\Z"),
    # The groups of an IBAN.
    "iban": re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[\W_]{0,2}[0-9]{2}(?:[\W_]{0,3}[A-Za-z0-9]){0,30}[\W_]{0,3}\Z"),
    # Single characters and pairs with separators in between.
    "pairs": re.compile(r"(?<!\w)(?:\w{1,2}[\W_]{1,3}){1,40}\w{0,2}\Z"),
    "spelled": re.compile(r"(?<!\w)[^\n]([ .\-_*|])(?:[^\n]\1){0,40}[^\n]?\Z"),
    # An e-mail address in words, before and behind its sign.
    "before at": re.compile(r"[\w.+'\-]{1,40}(?:[ ](?:a|at[ ]?)?|[ ]?[\[({<][ ]?(?:at?|@)?[ ]?[\])}>]?[ ]?)\Z", re.IGNORECASE),
    "behind at": re.compile(
        rf"[\w.+'\-]{{1,40}}(?:[ ]at[ ]|[ ]?[\[({{<][ ]?(?:at|@)[ ]?[\])}}>][ ]?|[ ]?@[ ]?)(?:[\w\-]{{1,30}}(?:{_DOT})){{0,4}}"
        r"(?:[\w\-]{1,30}(?:[ ]?[\[({<][ ]?(?:do?|dot|\.)?[ ]?|[ ](?:do?|dot)?)?)?\Z",
        re.IGNORECASE,
    ),
}
# The search for a tail tries every place to begin; what a text that has one must have in it is found in a fraction of the time.
_BACKWARDS = re.compile(rf"[ ]?{_WORD}{{1,{HOLD}}}")
_DIGIT = re.compile("[0-9]")
_PAIR = re.compile(r"(?<![^\W_])\w{1,2}[\W_]{1,3}\w{0,2}\Z")
_AT = re.compile(r"(?:[ ](?:a|at[ ]?)?|[\[({<][ ]?(?:at?|@)?[ ]?[\])}>]?[ ]?)\Z", re.IGNORECASE)
_SIGN = re.compile(r"[@\[({<]|[ ][aA][tT][ ]")


def tail_begins(text: str, low: int) -> int:
    """Where the part of `text` begins, not before `low`, that any of TAILS finds; the end of the text where none does."""
    hold = len(text)
    # Backwards, the longest word is the first match.
    word = _BACKWARDS.match(text[low:][::-1])
    if word:
        hold -= word.end()
    for name in _possible(text, low):
        found = TAILS[name].search(text, low)
        if found:
            hold = min(hold, found.start())
    return hold


def _possible(text: str, low: int) -> Iterator[str]:
    """Which of the other TAILS the end of `text` may have."""
    if _DIGIT.search(text, low):
        yield "digits"
        yield "iban"
    if _PAIR.search(text, max(low, len(text) - 8)):
        yield "pairs"
    if not {" ", ".", "-", "_", "*", "|"}.isdisjoint(text[max(low, len(text) - 2) :]):
        yield "spelled"
    if _AT.search(text, max(low, len(text) - 8)):
        yield "before at"
    if _SIGN.search(text, low):
        yield "behind at"


class Masking:
    """Findings masked in text that is released part by part; a value in several parts gets one mask and is counted once.

    `blocked`: with BLOCK, a finding came up; what stood before it was released, nothing of it was.
    """

    def __init__(self, behavior: Literal["BLOCK", "MASK"], counts: Counter[str]) -> None:
        self._blocks = behavior == "BLOCK"
        self._open = False  # What has gone out ends within a value whose mask has gone out.
        self.counts = counts
        self.blocked = False

    def released(self, window: str, base: int, cut: int, spans: Iterable[PiiSpan]) -> str:
        """window[base:cut] with the `spans` of the window masked; up to `base` it has gone out already."""
        parts: list[tuple[int, int]] = []
        for span in spans:
            if span.start < cut and span.end > base:
                parts.append((max(span.start, base), min(span.end, cut)))
                self.counts[span.entity] += not (self._open and span.start < base)
        out: list[str] = []
        done = base
        for start, end in merged(parts):
            out.append(window[done:start])
            if self._blocks:
                self.blocked = True
                return "".join(out)
            if not (start == base and self._open):
                out.append(MASK)
            done = end
        out.append(window[done:cut])
        if cut > base:
            self._open = bool(parts) and done == cut
        return "".join(out)


class PiiStream:
    """The detector for one stream (one choice of one answer). `counts`: findings so far; `blocked`: nothing more will be released."""

    def __init__(
        self,
        behavior: Literal["BLOCK", "MASK"],
        entities: frozenset[str] | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        counts: Counter[str] | None = None,
    ) -> None:
        self.wanted = DEFAULT_ENTITIES if entities is None else entities & DEFAULT_ENTITIES
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._threshold = threshold
        self._masking = Masking(behavior, self.counts)
        self._context = ""
        self._pending = ""

    @property
    def blocked(self) -> bool:
        """Whether a finding has ended the stream."""
        return self._masking.blocked

    def feed(self, piece: str) -> str:
        """Take the next piece; the text that may be released now, masked."""
        return driven(self.steps(piece, final=False), self._detected)

    def finish(self) -> str:
        """The stream has ended; the rest of the text, masked."""
        return driven(self.steps("", final=True), self._detected)

    def give_up(self) -> str:
        """What is held back, unlooked at."""
        held, self._pending = self._pending, ""
        return held

    def _detected(self, asked: tuple[str, float]) -> list[PiiSpan]:
        window, threshold = asked
        return detect([window], self.wanted, threshold)

    def steps(self, piece: str, *, final: bool) -> Generator[tuple[str, float], list[PiiSpan], str]:
        """`feed` or `finish` for whoever looks elsewhere: yields a text and a threshold, takes what `detect` finds of what is `wanted`."""
        self._pending += piece
        if self.blocked or not self._pending or not self.wanted:
            released, self._pending = "" if self.blocked else self._pending, ""
            return released
        base = len(self._context)
        window = self._context + self._pending
        cut = lowest = len(window)
        if not final:
            cut, lowest = _open_from(window)
            # Findings only keep back more.
            if cut <= base:
                return ""
        weak = yield window, 0.0
        if not final:
            cut = max(lowest, self._before(weak, cut, len(window)))
            if cut <= base:
                return ""
        # An unsure finding may cover a sure one, so that one doesn't follow from the other.
        sure = weak if all(span.score >= self._threshold for span in weak) else (yield window, self._threshold)
        out = self._masking.released(window, base, cut, sure)
        if self.blocked:
            self._pending = ""
        else:
            self._keep(window, cut)
        return out

    def _keep(self, window: str, cut: int) -> None:
        gone, self._pending = window[:cut], window[cut:]
        first = max(0, len(gone) - _CONTEXT)
        while first > 0 and len(gone) - first < _LONGEST and not gone[first - 1].isspace():
            first -= 1
        self._context = gone[first:]

    def _before(self, spans: Iterable[PiiSpan], cut: int, size: int) -> int:
        """`cut`, or where the finding begins that it would divide, or that may go on at the end of so much text."""
        for span in sorted(spans, key=lambda span: span.start, reverse=True):
            unsure = span.score < self._threshold and span.entity == PHONE_NUMBER
            if span.start < cut and (span.end > cut or span.end >= size - (BEHIND if unsure else 3)):
                cut = span.start
        return cut


def _open_from(window: str) -> tuple[int, int]:
    """Where in `window` the part begins that may become something, whatever is found; and the least of it that goes out all the same."""
    reading = folded(window)
    text = reading.text
    low = max(0, len(text) - HOLD)
    # The search begins early enough to see what a word or number that reaches into the last characters begins with.
    hold = tail_begins(text, low)
    cut = reading.origin(hold, hold + 1)[0] if hold < len(text) else len(window)
    # Characters that are not drawn may be the beginning of hidden text.
    while cut > 0 and not window[cut - 1].isascii() and not fold_lookalikes(window[cut - 1]):
        cut -= 1
    lowest = max(reading.origin(low, low + 1)[0] if low > 0 else 0, len(window) - HOLD_RAW)
    return max(cut, lowest), lowest
