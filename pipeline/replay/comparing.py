"""How much two answers' texts have in common, and what guardrails found in a request or its answer. Pure; never fails.

Similarity is the normalised Indel similarity of rapidfuzz (`fuzz.ratio`): the share of characters that stay when one text is turned into
the other by inserting and deleting. 1 is the same text, 0 nothing in common; it knows nothing of meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rapidfuzz import fuzz

from pipeline.core.texts import answer_texts

# The time grows with the product of the lengths: so much of each text takes a tenth of a second.
MOST_CHARS = 100_000


def text_of(answer: dict[str, Any]) -> str | None:
    """All text of an answer: its choices, tool calls and reasoning, without log probabilities; None where it has none (embeddings)."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return None
    bare = [{k: v for k, v in choice.items() if k != "logprobs"} for choice in choices if isinstance(choice, dict)]
    return "\n".join(answer_texts({"choices": bare}))


def similarity(before: str | None, after: str | None) -> float | None:
    """0 to 1; None where there is nothing to compare."""
    if before is None or after is None:
        return None
    return float(fuzz.ratio(before[:MOST_CHARS], after[:MOST_CHARS])) / 100


def findings(runs: Iterable[Mapping[str, Any] | None] | None) -> list[str]:
    """What guardrails found, such as `input PII masked`; a guardrail that let everything pass is no finding."""
    found = [run for run in runs or () if run is not None and run["result"] not in (None, "PASSED")]
    return sorted({f"{run['direction']} {run['assessment_type']} {str(run['result']).lower()}" for run in found})
