"""OpenAI's server-sent events as chunks that can be passed on: chat completions and completions.

A chunk is checked and otherwise left as it came, unknown fields included, but for `usage`, which is taken out and kept. Tool calls
without a number, as some compatible servers send them, get one. A chunk of another shape raises Garbage, an error in place of a chunk
BrokenOff with the provider's words. Pure.
"""

from __future__ import annotations

from typing import Any

from pipeline.providers import wire
from pipeline.providers.sse import Event

DONE = b"[DONE]"
_CHAT, _COMPLETION = "chat.completion.chunk", "text_completion"
_MOST_CHOICES = 128
_TEXTS = ("content", "refusal", "reasoning", "reasoning_content")


class OpenAIStream:
    """One answer. `ended`: nothing more belongs to it; `is_whole`: it may end here."""

    def __init__(self, task: str, created: int) -> None:
        self._chat, self._created = task == "llm/v1/chat", created
        self._open: dict[int, bool] = {}
        self._calls: dict[int, list[str]] = {}
        self._usage: Any = None
        self.model: str | None = None
        self.ended = False

    @property
    def is_whole(self) -> bool:
        """Whether a choice has come, and every one has said why it ended, or the answer as a whole has ended."""
        return bool(self._open) and (self.ended or not any(self._open.values()))

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        """Input and output tokens as the provider counted them, None where it did not."""
        return wire.token_count(self._usage, "prompt_tokens"), wire.token_count(self._usage, "completion_tokens")

    def take(self, event: Event) -> list[dict[str, Any]]:
        """The chunks that an event comes to."""
        if event.data.strip() == DONE:
            self.ended = True
            return []
        value = wire.parse(event.data)
        if value.get("error") is not None or event.kind == "error":
            raise wire.BrokenOff(wire.error_message(event.data) or "an error without words", _kind_of(value))
        usage = value.pop("usage", None)
        self._usage = usage if isinstance(usage, dict) else self._usage
        if isinstance(value.get("model"), str) and value["model"]:
            self.model = value["model"]
        choices = value.get("choices")
        if choices is None and usage is not None:
            return []
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise wire.Garbage("has a chunk without a list of choices")
        if not choices:
            return []
        for place, choice in enumerate(choices):
            self._check(choice, place)
        value["object"] = _CHAT if self._chat else _COMPLETION
        value["id"] = value["id"] if isinstance(value.get("id"), str) else ""
        value["created"] = value["created"] if type(value.get("created")) is int else self._created
        value["model"] = value["model"] if isinstance(value.get("model"), str) else self.model or ""
        return [value]

    def _check(self, choice: dict[str, Any], place: int) -> None:
        index = choice.setdefault("index", place)
        if type(index) is not int or not 0 <= index < _MOST_CHOICES:
            raise wire.Garbage("has a choice whose number is none")
        reason = choice.setdefault("finish_reason", None)
        if reason is not None and not isinstance(reason, str):
            raise wire.Garbage("has a finish_reason that is no text")
        if self._chat:
            delta = choice.get("delta")
            if delta is None:
                delta = choice["delta"] = {}
            if not isinstance(delta, dict):
                raise wire.Garbage("has a choice without a delta")
            for name in _TEXTS:
                if not isinstance(delta.get(name), str | None):
                    raise wire.Garbage(f"has a {name} that is no text")
            wire.check_tool_calls(delta.get("tool_calls"))
            self._number(index, delta.get("tool_calls") or [])
        elif not isinstance(choice.get("text"), str):
            raise wire.Garbage("has a choice without text")
        self._open[index] = reason is None and self._open.get(index, True)

    def _number(self, choice: int, calls: list[dict[str, Any]]) -> None:
        known = self._calls.setdefault(choice, [])
        for call in calls:
            identity = call["id"] if isinstance(call.get("id"), str) else ""
            if type(call.get("index")) is int and call["index"] >= 0:
                continue
            if identity and identity not in known:
                known.append(identity)
            call["index"] = known.index(identity) if identity else max(len(known) - 1, 0)


def _kind_of(value: dict[str, Any]) -> str:
    error = value.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) else ""
