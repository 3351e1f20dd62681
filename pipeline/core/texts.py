"""All text of a request or an answer in OpenAI's shape, wherever it stands: what guardrails look at and what is counted.

Messages (content, parts, names, tool calls with their arguments, refusals and reasoning), tool definitions, prompts, embeddings'
inputs, every choice of an answer. Pure; anything that is not text is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Text that only steers the protocol: looking at it would find "user" in every message.
_STRUCTURAL = frozenset({"role", "type", "object", "id", "model", "finish_reason", "tool_call_id", "encoding_format", "created",
                         "system_fingerprint", "service_tier", "detail", "format", "response_format"})  # fmt: skip
_REQUEST_FIELDS = ("messages", "prompt", "suffix", "input", "tools", "functions")


def request_texts(body: dict[str, Any]) -> Iterator[str]:
    """Every text of a request's body."""
    for field in _REQUEST_FIELDS:
        yield from _walk(body.get(field))


def answer_texts(body: dict[str, Any]) -> Iterator[str]:
    """Every text of an answer: all choices, with tool-call arguments and reasoning."""
    yield from _walk(body.get("choices"))


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in _STRUCTURAL:
                yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def characters(texts: Iterator[str]) -> int:
    """How many characters of text there are."""
    return sum(map(len, texts))
