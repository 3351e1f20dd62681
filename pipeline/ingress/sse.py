"""Streams as server-sent events, in the form of the path: OpenAI's chunks, or the events of Anthropic's Messages API.

An error after the start has the status in its body alone, and nothing comes after it, `[DONE]` neither: a client must not take what it
has for the whole. Pure.
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from pipeline.core.following import Failure
from pipeline.ingress import answers
from pipeline.messages_stream import MessageEvents

HEADERS: list[answers.Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies that collect answers before they pass them on are asked not to.
    (b"x-accel-buffering", b"no"),
]
KEEP_ALIVE = b": keep-alive\n\n"


class Dialect(Protocol):
    """How a stream is told."""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """A chunk in OpenAI's shape."""

    def end(self, usage: dict[str, int]) -> bytes:
        """All is well; `usage` as an answer tells it."""

    def error(self, failure: Failure) -> bytes:
        """The stream ends here."""


def _event(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(value)


class OpenAIEvents:
    """OpenAI's form; with `include_usage` a last chunk tells the tokens, and all others that they don't."""

    def __init__(self, form: answers.Form, include_usage: bool) -> None:
        self._form, self._include_usage = form, include_usage
        self._head: dict[str, Any] = {}

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        self._head = self._head or {name: value for name, value in chunk.items() if name != "choices"}
        return _event({**chunk, "usage": None} if self._include_usage else chunk)

    def end(self, usage: dict[str, int]) -> bytes:
        last = _event({**self._head, "choices": [], "usage": usage}) if self._include_usage else b""
        return last + b"data: [DONE]\n\n"

    def error(self, failure: Failure) -> bytes:
        told = answers.error_body("openai", failure.status_code, failure.error_code, failure.message)
        if self._form == "databricks":
            told = orjson.dumps({"error_code": failure.error_code, "message": failure.message, **orjson.loads(told)})
        return b"data: %b\n\n" % told


class AnthropicEvents:
    """The Messages API's form, from `model`, the name that the caller asked for."""

    def __init__(self, model: str) -> None:
        self._events = MessageEvents(model)

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        return _named(self._events.chunk(chunk))

    def end(self, usage: dict[str, int]) -> bytes:
        return _named(self._events.end(usage))

    def error(self, failure: Failure) -> bytes:
        told = answers.error_body("anthropic", failure.status_code, failure.error_code, failure.message)
        return b"event: error\ndata: %b\n\n" % told


def _named(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\n%b" % (event["type"].encode(), _event(event)) for event in events)
