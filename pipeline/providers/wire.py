"""What the providers' wire formats share: the outgoing call, reading what came back without trusting it, and counting tokens.

A provider's answer is untrusted input. What is not the JSON of the expected shape raises Garbage, which counts as the provider's
failure; counts that are missing or absurd are estimated from the text, as databricks-api.md has it: (characters + 1) // 4. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.core import texts
from pipeline.providers.secrets import Secret

MAX_ERROR_CHARACTERS = 500
MAX_TOKENS = 2**53
# The answer is nested some levels deeper in records, and orjson writes at most 254.
MAX_DEPTH = 200
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class Garbage(Exception):
    """The provider's answer is not what its API promises; the text says in which way, and holds nothing of the answer."""


class BrokenOff(Exception):
    """The provider said in the middle of a stream that it can't go on: in which words, and of which kind (its own name of it)."""

    def __init__(self, words: str, kind: str = "") -> None:
        super().__init__(words)
        self.words, self.kind = words, kind


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A POST to a provider. `secret` stands in one of the headers and must not be seen anywhere else."""

    url: str
    headers: list[tuple[str, str]]
    content: bytes
    secret: Secret | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer in OpenAI's shape, with `usage` filled in."""

    body: dict[str, Any]
    input_tokens: int
    output_tokens: int
    model: str | None


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; Garbage where it is none, or holds what can't be written again (lone surrogates, deep nesting)."""
    try:
        value = orjson.loads(data)
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            _check_depth(value)
    except ValueError:
        raise Garbage("is not valid JSON") from None
    if not isinstance(value, dict):
        raise Garbage("is not a JSON object")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v) if isinstance(inner, dict | list)]
        if not level:
            return
    raise Garbage("is nested too deeply")


def error_message(data: bytes) -> str:
    """The provider's own words in an error answer: OpenAI's, Anthropic's and other usual forms, or the text itself if it is short text."""
    try:
        value = orjson.loads(data)
    except ValueError:
        text = data[: MAX_ERROR_CHARACTERS * 4].decode(errors="replace")
        return "" if text.lstrip().startswith("<") else one_line(text)
    for field in ("error", "message", "detail", "error_message"):
        found = value.get(field) if isinstance(value, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str) and found:
            return one_line(found)
        if isinstance(found, list) and found:
            return one_line(orjson.dumps(found).decode())
    return ""


def one_line(text: str) -> str:
    """`text` on one line without control characters, at most 500 characters."""
    text = _CONTROL.sub(" ", text[: MAX_ERROR_CHARACTERS * 4]).strip()
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[: MAX_ERROR_CHARACTERS - 1] + "…"


def token_count(usage: Any, field: str) -> int | None:
    """A count of tokens from a provider's usage, or None where it is no plausible count."""
    value = usage.get(field) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def estimated_input_tokens(body: dict[str, Any]) -> int:
    """The tokens of a request by its characters; pictures that stand in it as data count nothing."""
    return (sum(len(t) for t in texts.request_texts(body) if not t.startswith("data:")) + 1) // 4


def estimated_output_tokens(answer: dict[str, Any]) -> int:
    """The tokens of an answer by its characters; 0 for embeddings, which hold no text."""
    return (texts.characters(texts.answer_texts(answer)) + 1) // 4 if "choices" in answer else 0


def checked_text(value: Any, what: str) -> None:
    """Garbage where `value` is neither text, nor nothing, nor a list of parts."""
    if value is not None and not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(p, dict) for p in value)):
        raise Garbage(f"has a {what} that is no text")


def check_tool_calls(calls: Any) -> None:
    """Garbage where `calls` are neither tool calls nor nothing."""
    if calls is None:
        return
    if not isinstance(calls, list) or not all(isinstance(c, dict) for c in calls):
        raise Garbage("has tool calls that are no list of objects")
    for call in calls:
        function = call.get("function")
        if function is not None and not (isinstance(function, dict) and isinstance(function.get("arguments"), str | None)):
            raise Garbage("has a tool call whose function is not one")
