"""Safety engines elsewhere: models that judge whether the texts of a request or an answer are unsafe, behind one interface.

    safety = engine(settings)                              once per process and event loop
    verdict = await safety.judge(texts, timeout_s=...)     all texts of one body; SafetyUnavailable where nobody could judge
    await safety.close()

openai is OpenAI's moderation API, llama-guard a model of that family behind a chat/completions address. The default is neither but the
embedded engine, pipeline/core/safety.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import httpx

from pipeline.core.safety import SafetyVerdict
from pipeline.errors import InvalidParameter
from pipeline.safety.asking import SafetyUnavailable
from pipeline.safety.llama_guard import LlamaGuard
from pipeline.safety.openai_moderation import OpenAIModeration
from pipeline.settings import Settings

__all__ = ["LlamaGuard", "OpenAIModeration", "SafetyEngine", "SafetyUnavailable", "SafetyVerdict", "engine"]


class SafetyEngine(Protocol):
    """Judges all texts of one request or answer at once."""

    async def judge(self, texts: Sequence[str], *, timeout_s: float) -> SafetyVerdict:
        """The verdict within `timeout_s` seconds; raises SafetyUnavailable, whose message holds no text, key or address."""
        ...

    async def close(self) -> None:
        """Release connections; the engine is not used afterwards."""
        ...


def engine(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> SafetyEngine | None:
    """The remote engine that the settings name, None where it is the embedded one. It uses `transport`, or makes a guarded one at its
    first call.

    InvalidParameter where a setting is missing or wrong, with its name.
    """
    try:
        if settings.safety_engine == "openai":
            return OpenAIModeration(settings, transport)
        if settings.safety_engine == "llama-guard":
            return LlamaGuard(settings, transport)
    except ValueError as exc:
        raise InvalidParameter(str(exc)) from None
    return None
