"""Masking: the found parts of texts replaced by `[REDACTED]`. Pure; never fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.core.pii.detection import PiiSpan

MASK = "[REDACTED]"


def mask(texts: Sequence[str], spans: Iterable[PiiSpan]) -> list[str]:
    """`texts` with every span replaced by one mask; spans that overlap or touch share one."""
    masked = list(texts)
    by_text: dict[int, list[tuple[int, int]]] = {}
    for span in spans:
        by_text.setdefault(span.text, []).append((span.start, span.end))
    for number, parts in by_text.items():
        text = texts[number]
        pieces: list[str] = []
        done = 0
        for start, end in merged(parts):
            pieces += (text[done:start], MASK)
            done = end
        pieces.append(text[done:])
        masked[number] = "".join(pieces)
    return masked


def merged(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals in order, those that overlap or touch made one."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], end))
        else:
            made.append((start, end))
    return made
