"""Chunks of a streamed answer put together: to one chunk that says the same, and at the end to the answer that the row keeps.

Chunks have OpenAI's shape, `chat.completion.chunk` or `text_completion`, and were checked where they were read (pipeline/providers), but
fields that nobody knows may hold anything: of those the last one counts. Pure; never fails.
"""

from __future__ import annotations

from typing import Any

# Fields of a delta, or of a completion's choice, whose texts are written one after the other.
TEXTS = ("content", "refusal", "reasoning", "reasoning_content", "text")
_JOINED = frozenset({*TEXTS, "role", "tool_calls", "function_call"})
_CHUNK = frozenset({"id", "object", "created", "model", "choices"})
_CHOICE = frozenset({"index", "delta", "text", "finish_reason", "logprobs"})


def says_something(chunk: dict[str, Any]) -> bool:
    """Whether a client learns more from this chunk than that an answer has begun: text, a tool call or the end of a choice."""
    for choice in _choices(chunk):
        delta = _object(choice.get("delta"))
        if choice.get("text") or choice.get("finish_reason") or any(value for name, value in delta.items() if name != "role"):
            return True
    return False


def can_be_joined(chunk: dict[str, Any]) -> bool:
    """Whether nothing of this chunk is lost when it is put together with its neighbours."""
    return _CHUNK.issuperset(chunk) and all(
        _CHOICE.issuperset(choice) and not choice.get("logprobs") and _JOINED.issuperset(_object(choice.get("delta")))
        for choice in _choices(chunk)
    )


class _Call:
    """A tool call whose arguments come bit by bit; of what comes only once, the first counts."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.function: dict[str, Any] = {}
        self.arguments: list[str] = []

    def add(self, call: dict[str, Any]) -> None:
        for name, value in call.items():
            if name not in ("index", "function") and value is not None:
                self.fields.setdefault(name, value)
        self.add_function(_object(call.get("function")))

    def add_function(self, function: dict[str, Any]) -> None:
        for name, value in function.items():
            if name == "arguments":
                if isinstance(value, str):
                    self.arguments.append(value)
            elif value is not None:
                self.function.setdefault(name, value)

    def whole_function(self) -> dict[str, Any]:
        return {**self.function, "arguments": "".join(self.arguments)} if self.arguments or self.function else {}

    def whole(self) -> dict[str, Any]:
        function = self.whole_function()
        return {**self.fields, "function": function} if function else dict(self.fields)


class _Choice:
    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.delta: dict[str, Any] = {}
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, _Call] = {}
        self.function_call: _Call | None = None
        self.logprobs: dict[str, Any] | None = None
        self.finish_reason: Any = None
        self.is_chat = False

    def add(self, choice: dict[str, Any]) -> None:
        for name, value in choice.items():
            if name not in _CHOICE and value is not None:
                self.fields[name] = value
        if isinstance(choice.get("text"), str):
            self.texts.setdefault("text", []).append(choice["text"])
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self._add_logprobs(choice.get("logprobs"))
        if "delta" in choice:
            self.is_chat = True
            self._add_delta(_object(choice["delta"]))

    def _add_delta(self, delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            if name in TEXTS and isinstance(value, str):
                self.texts.setdefault(name, []).append(value)
            elif name == "tool_calls" and isinstance(value, list):
                for place, call in enumerate(value):
                    if isinstance(call, dict):
                        index = call.get("index")
                        self.calls.setdefault(index if type(index) is int else place, _Call()).add(call)
            elif name == "function_call" and isinstance(value, dict):
                self.function_call = self.function_call or _Call()
                self.function_call.add_function(value)
            elif value is not None:
                self.delta[name] = value

    def _add_logprobs(self, logprobs: Any) -> None:
        if not isinstance(logprobs, dict):
            return
        kept = self.logprobs = self.logprobs or {}
        for name, value in logprobs.items():
            known = kept.get(name)
            kept[name] = [*known, *value] if isinstance(known, list) and isinstance(value, list) else value

    def as_delta(self, index: int) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in self.texts.items()}
        choice: dict[str, Any] = {"index": index, **self.fields}
        if self.is_chat:
            choice["delta"] = self.delta | texts
            if self.calls:
                choice["delta"]["tool_calls"] = [{"index": number, **call.whole()} for number, call in self.calls.items()]
            if self.function_call is not None:
                choice["delta"]["function_call"] = self.function_call.whole_function()
        else:
            choice |= texts
        if self.logprobs is not None:
            choice["logprobs"] = self.logprobs
        return {**choice, "finish_reason": self.finish_reason}

    def as_answer(self, index: int) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in self.texts.items()}
        choice: dict[str, Any] = {"index": index, **self.fields}
        if self.is_chat:
            said = {"content": texts.pop("content", None) or (None if self.calls or self.function_call or texts.get("refusal") else "")}
            message: dict[str, Any] = {"role": "assistant", **self.delta, **said, **{name: text for name, text in texts.items() if text}}
            if self.calls:
                message["tool_calls"] = [call.whole() for _, call in sorted(self.calls.items())]
            if self.function_call is not None:
                message["function_call"] = self.function_call.whole_function()
            choice["message"] = message
        else:
            choice["text"] = texts.get("text", "")
        return {**choice, "logprobs": self.logprobs, "finish_reason": self.finish_reason}


class Together:
    """What the chunks given to `add` say. False while there were none."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def __bool__(self) -> bool:
        return bool(self._head or self._choices)

    def add(self, chunk: dict[str, Any]) -> None:
        """Take the next chunk, which is not changed."""
        for name, value in chunk.items():
            if name not in ("choices", "usage") and value is not None:
                self._head.setdefault(name, value)
        for place, choice in enumerate(_choices(chunk)):
            index = choice.get("index")
            self._choices.setdefault(index if type(index) is int else place, _Choice()).add(choice)

    def chunk(self) -> dict[str, Any]:
        """One chunk that says what all of them said."""
        return {**self._head, "choices": [choice.as_delta(index) for index, choice in self._choices.items()]}

    def body(self, usage: dict[str, int]) -> dict[str, Any]:
        """The whole answer, as it would have come without streaming."""
        head = dict(self._head)
        if head.get("object") == "chat.completion.chunk":
            head["object"] = "chat.completion"
        return {**head, "choices": [choice.as_answer(index) for index, choice in sorted(self._choices.items())], "usage": usage}


def as_chunk(answer: dict[str, Any], task: str) -> dict[str, Any]:
    """A whole answer of `task`, checked already, as one chunk that says all of it."""
    chat = task == "llm/v1/chat"
    chunk = {name: value for name, value in answer.items() if name != "usage"}
    chunk["object"] = "chat.completion.chunk" if chat else "text_completion"
    chunk["choices"] = []
    for place, choice in enumerate(_choices(answer)):
        made = {"index": place, **choice}
        if chat:
            delta = made["delta"] = dict(_object(made.pop("message", None)))
            if isinstance(delta.get("content"), list):
                # A delta's content is text, which can be joined.
                delta["content"] = "".join(p["text"] for p in delta["content"] if isinstance(p, dict) and isinstance(p.get("text"), str))
            if delta.get("tool_calls"):
                delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(delta["tool_calls"])]
        chunk["choices"].append(made)
    return chunk


def _choices(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
