"""Anthropic's server-sent events as chunks of a chat completion.

    message_start                         the chunk with the role
    content_block_start/delta, text       content
    content_block_start/delta, tool_use   tool_calls, numbered from 0; their arguments come as text
    message_delta                         finish_reason
    ping, thinking and the like           nothing

An event of another shape raises Garbage, an `error` event BrokenOff with the provider's words. Pure.
"""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.providers import wire
from pipeline.providers.anthropic import input_tokens
from pipeline.providers.anthropic_form import FINISH_REASONS
from pipeline.providers.sse import Event


class AnthropicStream:
    """One message. `ended`: nothing more belongs to it; `is_whole`: it may end here."""

    def __init__(self, task: str, created: int) -> None:
        self._created = created
        self._id = ""
        self._usage: dict[str, Any] = {}
        # Content block -> its tool call's number and, until arguments have come, the input it began with.
        self._calls: dict[int, tuple[int, Any]] = {}
        self._texts: set[int] = set()
        self._begun = self._stopped = False
        self.model: str | None = None
        self.ended = False

    @property
    def is_whole(self) -> bool:
        """Whether the message began, and has ended or said why it does."""
        return self._begun and (self.ended or self._stopped)

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        """Input and output tokens as the provider counted them, None where it did not."""
        return input_tokens(self._usage)[0], wire.token_count(self._usage, "output_tokens")

    def take(self, event: Event) -> list[dict[str, Any]]:
        """The chunks that an event comes to."""
        value = wire.parse(event.data)
        match value.get("type"):
            case "message_start":
                message = _object(value, "message")
                self._begun = True
                self._id = message["id"] if isinstance(message.get("id"), str) else ""
                self.model = message["model"] if isinstance(message.get("model"), str) else None
                self._count(message.get("usage"))
                return [self._chunk({"role": "assistant", "content": ""})]
            case "content_block_start":
                return self._start(_number(value), _object(value, "content_block"))
            case "content_block_delta":
                return self._delta(_number(value), _object(value, "delta"))
            case "content_block_stop":
                number, given = self._calls.get(_number(value), (0, None))
                # A call without arguments, or one whose input came whole.
                return [] if given is None else [self._arguments(number, orjson.dumps(given).decode())]
            case "message_delta":
                self._count(value.get("usage"))
                reason = _object(value, "delta").get("stop_reason")
                if reason is None:
                    return []
                self._stopped = True
                return [self._chunk({}, FINISH_REASONS.get(reason, "stop") if isinstance(reason, str) else "stop")]
            case "message_stop":
                self.ended = True
            case "error":
                kind = _object(value, "error").get("type")
                raise wire.BrokenOff(wire.error_message(event.data) or "an error without words", kind if isinstance(kind, str) else "")
            case other if not isinstance(other, str):
                raise wire.Garbage("has an event without a type")
        return []

    def _start(self, block: int, content: dict[str, Any]) -> list[dict[str, Any]]:
        if content.get("type") == "text":
            self._texts.add(block)
            text = content.get("text")
            return [self._chunk({"content": text})] if isinstance(text, str) and text else []
        if content.get("type") == "tool_use":
            if not isinstance(content.get("id"), str) or not isinstance(content.get("name"), str):
                raise wire.Garbage("has a tool_use block that is not one")
            given = content.get("input")
            number = len(self._calls)
            self._calls[block] = number, given if isinstance(given, dict) else {}
            function = {"name": content["name"], "arguments": ""}
            return [self._chunk({"tool_calls": [{"index": number, "id": content["id"], "type": "function", "function": function}]})]
        return []

    def _delta(self, block: int, delta: dict[str, Any]) -> list[dict[str, Any]]:
        if delta.get("type") == "text_delta" and block in self._texts:
            if not isinstance(delta.get("text"), str):
                raise wire.Garbage("has a text delta without text")
            return [self._chunk({"content": delta["text"]})]
        if delta.get("type") == "input_json_delta" and block in self._calls:
            text = delta.get("partial_json")
            if not isinstance(text, str):
                raise wire.Garbage("has an input delta without text")
            number, _ = self._calls[block]
            if text:
                self._calls[block] = number, None
            return [self._arguments(number, text)] if text else []
        return []

    def _arguments(self, number: int, text: str) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": number, "function": {"arguments": text}}]})

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage |= {name: count for name, count in usage.items() if count is not None}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self.model or "", "choices": [choice]}


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    inner = value.get(name)
    if not isinstance(inner, dict):
        raise wire.Garbage(f"has an event whose {name} is no object")
    return inner


def _number(value: dict[str, Any]) -> int:
    number = value.get("index")
    if type(number) is not int:
        raise wire.Garbage("has a content block without a number")
    return number
