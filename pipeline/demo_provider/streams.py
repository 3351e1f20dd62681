"""What the demo provider says as server-sent events: OpenAI's chat and text completions, Anthropic's messages, in pieces.

The text, or a tool call's arguments, is cut into pieces of the behaviour's size, and may stop after some of them: then the provider's own
error event follows, or nothing (what happens to the connection is `end`'s word to exchange.py). A damage of behaviours.py stands after the
first piece. Pure, and made event by event, so that a caller who goes away early costs little.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from pipeline.demo_provider import answers
from pipeline.demo_provider.answers import CREATED, Reply
from pipeline.demo_provider.behaviours import Behaviour

_BAD_USAGE = {"prompt_tokens": -5, "completion_tokens": "many", "input_tokens": -5, "output_tokens": None, "total_tokens": 1.5}


def events(path: str, r: Reply, body: dict[str, Any], behaviour: Behaviour) -> Iterator[bytes]:
    """The answer to a request at `path`, one `bytes` for each event."""
    form: _Chat | _Completion | _Message
    if path == "/v1/messages":
        form = _Message(r, behaviour)
    else:
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        form = (_Chat if path == "/v1/chat/completions" else _Completion)(r, behaviour, with_usage)
    size = behaviour.piece_characters
    pieces = (form.said[i : i + size] for i in range(0, len(form.said), size))
    stop = behaviour.stop_after
    if behaviour.damage == "half":
        stop = len(form.said) // size // 2
    yield from form.begin()
    for number, piece in enumerate(pieces if stop is None else islice(pieces, stop)):
        yield form.piece(piece)
        if number == 0 and (damaged := _damaged(form, behaviour)):
            yield damaged
    if stop is None:
        yield from form.end()
    elif behaviour.stop == "error":
        yield form.error(f"the demo provider was told to break off after {stop} pieces")


def end(behaviour: Behaviour) -> str | None:
    """What comes after the last event: the connection is `cut`, or a `stall`; None where the answer just ends."""
    if behaviour.damage == "half":
        return "cut"
    return behaviour.stop if behaviour.stop in ("cut", "stall") else None


def _damaged(form: _Chat | _Completion | _Message, behaviour: Behaviour) -> bytes | None:
    match behaviour.damage:
        case "garbage":
            return b'data: {"id": "chatcmpl-1", "choices": [{"delta"\n\n'
        case "deep":
            return b'data: {"choices":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n\n"
        case "surrogate":
            return form.piece("%MARK%").replace(b"%MARK%", b"\\ud800")
        case "nul":
            return form.piece("\x00")
        case "wrong-types":
            return b'event: message_start\ndata: {"type": "message_start", "message": 7, "choices": {"0": "none"}}\n\n'
        case "huge":
            return form.piece(" " * int(behaviour.megabytes * 1_048_576))
    return None


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _arguments(r: Reply) -> str | None:
    return None if r.tool_call is None else orjson.dumps(r.tool_call["arguments"]).decode()


class _Completion:
    """OpenAI's text completions, and what chat has in common with them."""

    kind, prefix = "text_completion", "cmpl"

    def __init__(self, r: Reply, behaviour: Behaviour, with_usage: bool) -> None:
        self._reply, self._damage = r, behaviour.damage
        self._with_usage = with_usage and behaviour.damage != "no-usage"
        self.said = r.text

    def begin(self) -> Iterator[bytes]:
        return iter(())

    def piece(self, text: str) -> bytes:
        return self._chunk([{"index": 0, "text": text, "logprobs": None, "finish_reason": None}])

    def end(self) -> Iterator[bytes]:
        yield self._last()
        if self._with_usage:
            yield self._chunk([], usage=_BAD_USAGE if self._damage == "bad-usage" else answers.usage(self._reply))
        yield b"data: [DONE]\n\n"

    def error(self, text: str) -> bytes:
        return b"data: " + answers.error(500, text, anthropic=False) + b"\n\n"

    def _last(self) -> bytes:
        return self._chunk([{"index": 0, "text": "", "logprobs": None, "finish_reason": self._reply.finish_reason}])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        head = {"id": f"{self.prefix}-{self._reply.id}", "object": self.kind, "created": CREATED, "model": self._reply.model}
        # Where the counts are asked for, every chunk but that with them says that it has none.
        usage = {"usage": None} if self._with_usage else {}
        return _data({**head, "choices": choices, **usage, **more})


class _Chat(_Completion):
    """OpenAI's chat completions."""

    kind, prefix = "chat.completion.chunk", "chatcmpl"

    def __init__(self, r: Reply, behaviour: Behaviour, with_usage: bool) -> None:
        super().__init__(r, behaviour, with_usage)
        arguments = _arguments(r)
        self.said = r.text if arguments is None else arguments

    def begin(self) -> Iterator[bytes]:
        yield self._delta({"role": "assistant", "content": None if self._reply.tool_call else ""})
        if self._reply.tool_call:
            function = {"name": self._reply.tool_call["name"], "arguments": ""}
            yield self._delta({"tool_calls": [{"index": 0, "id": self._reply.tool_call["id"], "type": "function", "function": function}]})

    def piece(self, text: str) -> bytes:
        if self._reply.tool_call:
            return self._delta({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return self._delta({"content": text})

    def _last(self) -> bytes:
        return self._delta({}, self._reply.finish_reason)

    def _delta(self, change: dict[str, Any], finish: str | None = None) -> bytes:
        return self._chunk([{"index": 0, "delta": change, "logprobs": None, "finish_reason": finish}])


class _Message:
    """Anthropic's messages."""

    def __init__(self, r: Reply, behaviour: Behaviour) -> None:
        self._reply, self._damage = r, behaviour.damage
        arguments = _arguments(r)
        self.said = r.text if arguments is None else arguments

    def begin(self) -> Iterator[bytes]:
        r = self._reply
        message = {**answers.message(r), "content": [], "stop_reason": None}
        if self._damage == "no-usage":
            del message["usage"]
        else:
            message["usage"] = _BAD_USAGE if self._damage == "bad-usage" else {"input_tokens": r.prompt_tokens, "output_tokens": 1}
        yield self._event("message_start", message=message)
        block: dict[str, Any] = {"type": "text", "text": ""}
        if r.tool_call:
            block = {"type": "tool_use", "id": r.tool_call["id"], "name": r.tool_call["name"], "input": {}}
        yield self._event("content_block_start", index=0, content_block=block)
        yield self._event("ping")

    def piece(self, text: str) -> bytes:
        delta = {"type": "text_delta", "text": text}
        if self._reply.tool_call:
            delta = {"type": "input_json_delta", "partial_json": text}
        return self._event("content_block_delta", index=0, delta=delta)

    def end(self) -> Iterator[bytes]:
        yield self._event("content_block_stop", index=0)
        usage: dict[str, Any] = {"output_tokens": self._reply.completion_tokens}
        counted = {} if self._damage == "no-usage" else {"usage": _BAD_USAGE if self._damage == "bad-usage" else usage}
        yield self._event("message_delta", delta={"stop_reason": answers.stop_reason(self._reply), "stop_sequence": None}, **counted)
        yield self._event("message_stop")

    def error(self, text: str) -> bytes:
        return self._event("error", error={"type": "overloaded_error", "message": text})

    def _event(self, kind: str, **fields: Any) -> bytes:
        return b"event: " + kind.encode() + b"\n" + _data({"type": kind, **fields})
