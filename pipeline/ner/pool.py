"""Children that look for names and places (about 170 MB each), so that an event loop never waits for a language model.

A long request is asked about in pieces, so that others have their turn in between; one that no deadline would suffice for is refused at
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pipeline.children import ChildPool, ChildUnavailable
from pipeline.core.pii import PiiSpan
from pipeline.core.pii_entities import NER_ENTITIES

# A child reads some 40,000 characters a second.
PIECE: Final = 20_000
MOST: Final = 250_000


class NerPool(ChildPool):
    """`find` from any number of tasks."""

    def __init__(self, children: int = 1) -> None:
        super().__init__("names", "pipeline.ner.child", children)

    async def find(self, texts: Sequence[str], entities: frozenset[str], threshold: float, *, timeout_s: float) -> list[PiiSpan]:
        """Findings of the `entities` (those of NER_ENTITIES; others are passed over) in `texts` that score at least `threshold`.

        Positions are those of the texts as they came. Raises ChildUnavailable where they are not complete within `timeout_s`, or where
        there are more than MOST characters.
        """
        wanted = entities & NER_ENTITIES
        if not wanted or not any(texts):
            return []
        if sum(map(len, texts)) > MOST:
            raise ChildUnavailable(f"there are more than {MOST:,} characters to look for names in")
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        spans: list[PiiSpan] = []
        first = 0
        while first < len(texts):
            end, size = first + 1, len(texts[first])
            while end < len(texts) and size + len(texts[end]) <= PIECE:
                size += len(texts[end])
                end += 1
            found = await self.ask((list(texts[first:end]), wanted, threshold), timeout_s=max(0.0, deadline_s - loop.time()))
            spans += [replace(span, text=span.text + first) for span in found]
            first = end
        return spans
