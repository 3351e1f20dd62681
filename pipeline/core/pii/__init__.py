"""Personal data of the default set, found and masked: cards, e-mail, telephones, US bank and social security numbers, IBANs, IP addresses.

    spans = detect(texts)                      all texts of one body at once
    masked = mask(texts, spans)                each found part as [REDACTED]
    counts = count_entities(spans)             what an assessment may tell

Nothing here runs a language model, reads a file after the first use, or needs more than its arguments: it runs alike in the worker and in
a pandas UDF. Names, places and other entities that need a model: pipeline/ner.
"""

from collections import Counter
from collections.abc import Iterable

from pipeline.core.pii.detection import DEFAULT_THRESHOLD, PiiSpan, detect, resolved
from pipeline.core.pii.masking import MASK, mask
from pipeline.core.pii_entities import DEFAULT_ENTITIES

__all__ = ["DEFAULT_ENTITIES", "DEFAULT_THRESHOLD", "MASK", "PiiSpan", "count_entities", "detect", "mask", "resolved"]


def count_entities(spans: Iterable[PiiSpan]) -> dict[str, int]:
    """How many findings of each entity there are, by name: all that an assessment tells of them."""
    return dict(sorted(Counter(span.entity for span in spans).items()))
