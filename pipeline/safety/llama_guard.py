"""A model of the Llama Guard family as a safety engine, behind any chat/completions address in OpenAI's form: vLLM, Ollama, a provider,
or a serving endpoint of this gateway (one without a safety guardrail of its own).

All texts of a request are joined, and what is longer than a small context holds is judged in overlapping pieces, each a message of a call
of its own: servers drop the front of what is too long without a word. What a chat template would take for its own marks is broken up
first, so that no text can speak as the model. The model answers `safe`, or `unsafe` and on the next line the hazards it saw, such as
`S1,S10`. Whatever begins with `unsafe` is flagged, understood or not; any other answer is a SafetyUnavailable. It gives no scores: they are
0 or 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httpx

from pipeline.core.safety import CATEGORIES, SafetyVerdict
from pipeline.safety.asking import Asking, SafetyUnavailable
from pipeline.safety.pieces import ask_all, pieces
from pipeline.settings import Settings

_NAME = "llama-guard"
_MAX_TOKENS = 64
# Bytes, and characters: some 1,500 tokens of English, 2,000 of Chinese. The model's own instructions take some 500, and a server's context
# may be as small as 4,096.
_PIECE, _OVERLAP = 6_000, 300
_CODE = re.compile(r"\bS\d+\b", re.IGNORECASE)
# Where the marks of the families' chat templates begin: <|eot_id|>, <s>, </s>, [INST], [/INST], <<SYS>>, <start_of_turn>, and the
# <BEGIN CONVERSATION> of the guards' own instructions.
_MARK = re.compile(r"<(?=\||/?s>|</?sys|(?:begin|end)[ _]|(?:start|end)_of_turn)|\|(?=>)|\[(?=/?inst\])", re.IGNORECASE)
# What an unsafe text is called where the model names no hazard that is known here.
_UNNAMED = "non-violent-crimes"
# Llama Guard 3's hazards, by the MLCommons taxonomy. Defamation, lies about elections and abuse of a code interpreter, which the eleven
# lack, are offences.
_HAZARDS = {
    "S1": "violent-crimes",
    "S2": "non-violent-crimes",
    "S3": "sex-crimes",
    "S4": "child-exploitation",
    "S5": "non-violent-crimes",
    "S6": "specialized-advice",
    "S7": "privacy",
    "S8": "intellectual-property",
    "S9": "indiscriminate-weapons",
    "S10": "hate",
    "S11": "self-harm",
    "S12": "sexual-content",
    "S13": "non-violent-crimes",
    "S14": "non-violent-crimes",
}


class LlamaGuard:
    """Asks {url}/chat/completions; `transport` None makes a guarded one of its own."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if not settings.safety_url or not settings.safety_model:
            raise ValueError(
                "the safety engine 'llama-guard' needs SLUICE_SAFETY_URL (such as http://HOST:PORT/v1) and SLUICE_SAFETY_MODEL"
            )
        self._model = settings.safety_model
        self._asking = Asking(_NAME, f"{settings.safety_url.rstrip('/')}/chat/completions", settings, transport)

    async def judge(self, texts: Sequence[str], *, timeout_s: float) -> SafetyVerdict:
        """The verdict on `texts` together. Raises SafetyUnavailable."""
        asked = pieces([_MARK.sub(_broken, text) for text in texts], "\n\n", _PIECE, _OVERLAP)
        return await ask_all(_NAME, asked, lambda piece: self._ask(piece, timeout_s), timeout_s)

    async def _ask(self, piece: str, timeout_s: float) -> SafetyVerdict:
        question = {
            "model": self._model,
            "messages": [{"role": "user", "content": piece}],
            "temperature": 0,
            "max_tokens": _MAX_TOKENS,
        }
        answer = await self._asking.ask(question, timeout_s)
        try:
            hazards = _hazards(answer["choices"][0]["message"]["content"])
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            raise SafetyUnavailable(f"the {_NAME} engine sent an answer that is not one of such a model") from None
        flags = {name: name in hazards for name in CATEGORIES}
        return SafetyVerdict(bool(hazards), flags, {name: float(flag) for name, flag in flags.items()}, float(bool(hazards)))

    async def close(self) -> None:
        """Close its connections."""
        await self._asking.close()


def _broken(mark: re.Match[str]) -> str:
    return f"{mark.group()} "


def _hazards(said: str) -> set[str]:
    """The categories that the model's answer names, at least one where it begins with `unsafe`; none where it says `safe`.

    ValueError for any other answer.
    """
    said = said.strip()
    if said == "safe":
        return set()
    if not said.lower().startswith("unsafe"):
        raise ValueError
    return {_HAZARDS.get(code.upper(), _UNNAMED) for code in _CODE.findall(said)} or {_UNNAMED}
