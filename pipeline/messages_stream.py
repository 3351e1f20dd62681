"""A stream's chunks as events of Anthropic's Messages API.

    message_start, for each text or tool call: content_block_start, its deltas, content_block_stop; message_delta, message_stop

A message has one choice, the first. Its blocks come one after the other, while a provider may mix its tool calls: what comes beside the
first tool call waits for the end. Tokens are known at the end only and stand in message_delta, where Anthropic's clients
read them. Pure; fields of an unforeseen shape are left out.
"""

from __future__ import annotations

from typing import Any

from pipeline import messages_api
from pipeline.providers import anthropic_form as form

Event = dict[str, Any]
# Texts that a message shows; a model's reasoning has no counterpart without its signature.
_TEXTS = ("content", "refusal")


class MessageEvents:
    """The events of one message by `model`."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._started = False
        self._reason: str | None = None
        # The block that is open: "text", or the number of a tool call.
        self._open: str | int | None = None
        self._blocks = 0
        # What has to wait: tool calls bit by bit, and text.
        self._calls: dict[int, list[dict[str, Any]]] = {}
        self._texts: list[str] = []

    def chunk(self, chunk: dict[str, Any]) -> list[Event]:
        """What a chunk in OpenAI's shape comes to."""
        events = [] if self._started else [self._start(chunk)]
        for choice in chunk["choices"]:
            if choice.get("index", 0) == 0:
                events += self._choice(choice)
        return events

    def end(self, usage: dict[str, int]) -> list[Event]:
        """The end of the message."""
        events = [] if self._started else [self._start({})]
        events += self._waited()
        events += self._close()
        delta = {"stop_reason": form.STOP_REASONS.get(self._reason or "stop", "end_turn"), "stop_sequence": None}
        return [*events, {"type": "message_delta", "delta": delta, "usage": messages_api.usage_of(usage)}, {"type": "message_stop"}]

    def _start(self, chunk: dict[str, Any]) -> Event:
        self._started = True
        empty: dict[str, Any] = {"id": chunk.get("id"), "choices": []}
        return {"type": "message_start", "message": {**messages_api.from_chat(empty, self._model), "stop_reason": None}}

    def _choice(self, choice: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        delta = choice["delta"] if isinstance(choice.get("delta"), dict) else {}
        for name in _TEXTS:
            if isinstance(delta.get(name), str) and delta[name]:
                events += self._text(delta[name])
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        if isinstance(choice.get("finish_reason"), str):
            self._reason = choice["finish_reason"]
        return events

    def _text(self, text: str) -> list[Event]:
        if isinstance(self._open, int):
            self._texts.append(text)
            return []
        events = [] if self._open == "text" else self._begin("text", {"type": "text", "text": ""})
        return [*events, self._delta({"type": "text_delta", "text": text})]

    def _call(self, call: dict[str, Any]) -> list[Event]:
        number = call.get("index", 0)
        if self._open == number:
            return self._arguments(call)
        if isinstance(self._open, int):
            self._calls.setdefault(number, []).append(call)
            return []
        return self._begin_call(number, call)

    def _begin_call(self, number: int, call: dict[str, Any]) -> list[Event]:
        block = messages_api.tool_use({"id": call.get("id"), "function": {"name": _function(call).get("name")}}, number)
        return [*self._begin(number, block), *self._arguments(call)]

    def _arguments(self, call: dict[str, Any]) -> list[Event]:
        arguments = _function(call).get("arguments")
        return [self._delta({"type": "input_json_delta", "partial_json": arguments})] if isinstance(arguments, str) and arguments else []

    def _waited(self) -> list[Event]:
        events: list[Event] = []
        for number, (first, *rest) in sorted(self._calls.items()):
            events += self._begin_call(number, first)
            for call in rest:
                events += self._arguments(call)
        if self._texts:
            events += [*self._close(), *self._text("".join(self._texts))]
        return events

    def _begin(self, what: str | int, block: dict[str, Any]) -> list[Event]:
        closed = self._close()
        self._open = what
        return [*closed, {"type": "content_block_start", "index": self._blocks, "content_block": block}]

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._blocks, "delta": delta}

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        self._blocks += 1
        return [{"type": "content_block_stop", "index": self._blocks - 1}]


def _function(call: dict[str, Any]) -> dict[str, Any]:
    return call["function"] if isinstance(call.get("function"), dict) else {}
