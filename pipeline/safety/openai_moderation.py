"""OpenAI's moderation API as a safety engine: its thirteen categories as the eleven of the Databricks guardrail.

The texts of a request are joined into as few inputs as they need, which overlap, and a call holds up to INPUTS of them; the worst counts.
The model's own decision is kept: `flagged` is what it says, also where a new category of its own, which we can't name, is the reason. An
answer of any other shape is a SafetyUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from pipeline.core.safety import CATEGORIES, SafetyVerdict
from pipeline.core.safety.verdict import merged
from pipeline.safety.asking import Asking, SafetyUnavailable
from pipeline.safety.pieces import ask_all, pieces
from pipeline.settings import Settings

DEFAULT_MODEL = "omni-moderation-latest"
_NAME = "openai"
# How long an input may be, in bytes, by how many characters they overlap, and how many inputs a call holds.
_PIECE, _OVERLAP = 8_000, 300
INPUTS = 32
# https://platform.openai.com/docs/guides/moderation lists the categories.
_MEANS: dict[str, tuple[str, ...]] = {
    "harassment": ("hate",),
    "harassment/threatening": ("hate", "violent-crimes"),
    "hate": ("hate",),
    "hate/threatening": ("hate", "violent-crimes"),
    "illicit": ("non-violent-crimes",),
    "illicit/violent": ("violent-crimes", "indiscriminate-weapons"),
    "self-harm": ("self-harm",),
    "self-harm/intent": ("self-harm",),
    "self-harm/instructions": ("self-harm",),
    "sexual": ("sexual-content",),
    "sexual/minors": ("child-exploitation", "sexual-content"),
    "violence": ("violent-crimes",),
    "violence/graphic": ("violent-crimes",),
}


class OpenAIModeration:
    """Asks {url}/moderations; `transport` None makes a guarded one of its own."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        base = settings.safety_url or settings.openai_api_base
        self._model = settings.safety_model or DEFAULT_MODEL
        self._asking = Asking(_NAME, f"{base.rstrip('/')}/moderations", settings, transport)

    async def judge(self, texts: Sequence[str], *, timeout_s: float) -> SafetyVerdict:
        """The verdict on `texts` together. Raises SafetyUnavailable."""
        # The API refuses empty input.
        inputs = pieces(texts, "\n", _PIECE, _OVERLAP)
        calls = [inputs[start : start + INPUTS] for start in range(0, len(inputs), INPUTS)]
        return await ask_all(_NAME, calls, lambda asked: self._ask(asked, timeout_s), timeout_s)

    async def _ask(self, asked: list[str], timeout_s: float) -> SafetyVerdict:
        answer = await self._asking.ask({"model": self._model, "input": asked}, timeout_s)
        try:
            results = answer["results"]
            if len(results) != len(asked):
                raise ValueError
            return merged([_verdict(result) for result in results])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SafetyUnavailable(f"the {_NAME} engine sent an answer that is not one of its API") from None

    async def close(self) -> None:
        """Close its connections."""
        await self._asking.close()


def _verdict(result: dict[str, Any]) -> SafetyVerdict:
    """One result of the API; KeyError, TypeError or ValueError where it is none."""
    flagged, said, scored = result["flagged"], result["categories"], result["category_scores"]
    if type(flagged) is not bool or not said:
        raise ValueError
    categories = dict.fromkeys(CATEGORIES, False)
    scores = dict.fromkeys(CATEGORIES, 0.0)
    highest = 0.0
    # Models of before 2024 know fewer categories, and clients see null for those.
    for name, value in said.items():
        if value is not None and type(value) is not bool:
            raise ValueError
        for meant in _MEANS.get(name, ()):
            categories[meant] |= value is True
    for name, value in scored.items():
        score = 0.0 if value is None else float(value)
        if not 0.0 <= score <= 1.0:
            raise ValueError
        highest = max(highest, score)
        for meant in _MEANS.get(name, ()):
            scores[meant] = max(scores[meant], score)
    return SafetyVerdict(flagged or any(categories.values()), categories, scores, highest)
