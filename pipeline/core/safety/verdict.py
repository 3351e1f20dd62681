"""What a safety engine says of a text: the eleven categories of the Databricks guardrail, a score for each, and one overall.

Every engine, here or remote, answers with a SafetyVerdict, so whoever asks need not know which one it was. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# In the order of the Databricks moderation answer.
CATEGORIES = (
    "violent-crimes", "non-violent-crimes", "sex-crimes", "child-exploitation", "specialized-advice", "privacy", "intellectual-property",
    "indiscriminate-weapons", "hate", "self-harm", "sexual-content",
)  # fmt: skip
_NO_FLAGS, _NO_SCORES = dict.fromkeys(CATEGORIES, False), dict.fromkeys(CATEGORIES, 0.0)


@dataclass(frozen=True, slots=True)
class SafetyVerdict:
    """`categories` and `scores` have all eleven names; scores and `score`, the overall one, go from 0 (harmless) to 1."""

    flagged: bool
    categories: dict[str, bool]
    scores: dict[str, float]
    score: float


def verdict(scores: Mapping[str, float], threshold: float, score: float | None = None) -> SafetyVerdict:
    """The verdict of these scores; a category that is left out has 0. `score` is the highest of them unless given.

    Where the overall score reaches `threshold` but no category does, the highest one is flagged: a block names its reason.
    """
    if not scores and score is not None and score < threshold:
        return SafetyVerdict(False, dict(_NO_FLAGS), dict(_NO_SCORES), max(0.0, score))
    full = {name: min(1.0, max(0.0, float(scores.get(name, 0.0)))) for name in CATEGORIES}
    overall = max(full.values()) if score is None else min(1.0, max(0.0, score))
    flags = {name: value >= threshold for name, value in full.items()}
    flagged = overall >= threshold
    if flagged and not any(flags.values()):
        flags[max(full, key=full.__getitem__)] = True
    return SafetyVerdict(flagged, flags if flagged else dict.fromkeys(CATEGORIES, False), full, overall)


def merged(verdicts: Iterable[SafetyVerdict]) -> SafetyVerdict:
    """The verdict on several texts together: flagged where one is, each score the highest."""
    several = list(verdicts)
    if not several:
        return SafetyVerdict(False, dict(_NO_FLAGS), dict(_NO_SCORES), 0.0)
    if len(several) == 1:
        return several[0]
    return SafetyVerdict(
        any(one.flagged for one in several),
        {name: any(one.categories[name] for one in several) for name in CATEGORIES},
        {name: max(one.scores[name] for one in several) for name in CATEGORIES},
        max(one.score for one in several),
    )
