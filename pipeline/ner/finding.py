"""Names, places and the like in texts, synchronously, in the process that calls: a child of the pool, a Spark executor.

The model and Presidio are loaded at the first call (one to two seconds) and kept. Each text is read as it looks (invisible characters
gone, lookalikes folded, what was encoded decoded; pipeline/core/pii/normalise.py) and findings are mapped back. Raises what the engine
raises: the caller stops the text then. Nothing is read from the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from pipeline.core.pii import PiiSpan, resolved
from pipeline.core.pii.normalise import Reading, readings
from pipeline.core.pii_entities import NER_ENTITIES

# Long texts go through the model in parts, so that its memory stays small; parts overlap, so that no name is cut.
PART: Final = 8_000
OVERLAP: Final = 200
_SURROGATE = re.compile("[\ud800-\udfff]")


def find(texts: Sequence[str], entities: frozenset[str] | None, threshold: float) -> list[PiiSpan]:
    """Findings of the `entities` (None: all of NER_ENTITIES; others are passed over) that score at least `threshold`, in order of place.

    Positions are those of the texts as they came; what lies within a surer or longer finding is left out.
    """
    wanted = NER_ENTITIES if entities is None else entities & NER_ENTITIES
    if not wanted:
        return []
    return resolved(
        PiiSpan(number, start, end, entity, score)
        for number, text in enumerate(texts)
        for start, end, entity, score in _in_text(text, wanted)
        if score >= threshold
    )


def _in_text(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, int, str, float]]:
    from pipeline.ner.engine import analyse  # Loads the model: only in the process that searches.

    for reading in _ways_to_read(text):
        for offset, part in _parts(_SURROGATE.sub("?", reading.text)):
            for start, end, entity, score in analyse(part, wanted):
                yield *reading.origin(offset + start, offset + end), entity, score


def _ways_to_read(text: str) -> list[Reading]:
    """The last reading has everything in it, what was decoded too, but those before it may hold words that decoding broke."""
    made = readings(text)
    return [*(reading for reading in made[:-1] if reading.decoded), made[-1]]


def _parts(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > PART:
        end = start + PART
        # Not within a word, where there is a gap to be had.
        gap = max(text.rfind("\n", end - OVERLAP, end), text.rfind(" ", end - OVERLAP, end))
        end = gap if gap > 0 else end
        yield start, text[start:end]
        start = end - OVERLAP
    if start < len(text):
        yield start, text[start:]
