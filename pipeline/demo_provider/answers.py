"""What the demo provider says: made-up text that depends on the question alone, whole, in OpenAI's and Anthropic's wire formats.

The same request always gets the same bytes, and the text holds a digest of the last user message, so that an answer which reached
the wrong caller can be told. Pure: a parsed request and a Behaviour in, values and bytes out. A body that is no such request raises
BadRequest with the words that the caller gets.
"""

from __future__ import annotations

import base64
import gzip
import struct
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice
from typing import Any

import orjson

from pipeline.demo_provider.behaviours import Behaviour

CREATED = 1_700_000_000
EMBEDDING_SIZE = 8
_WORDS = ("the gate opens", "water finds its level", "a quiet stream", "the mill turns", "rain on the hills", "the lock fills slowly",
          "a boat goes down", "the reeds bend")  # fmt: skip

_SINGLE = " ".join(_WORDS).split()


class BadRequest(Exception):
    """The request is not what this path takes; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said, before it has a wire format. Token counts by the usual four characters each."""

    id: str
    model: str
    text: str
    finish_reason: str
    tool_call: dict[str, Any] | None
    prompt_tokens: int
    completion_tokens: int


def digest(text: str) -> str:
    """The digest that an answer to this last user message holds (16 hexadecimal digits)."""
    return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def reply(body: dict[str, Any], behaviour: Behaviour) -> Reply:
    """The reply to a chat, messages or completions request."""
    model = body.get("model")
    if not isinstance(model, str):
        raise BadRequest("model must be a string")
    prompt, characters = _prompt(body)
    mark = digest(prompt)
    text = prompt if behaviour.echo else behaviour.say
    if text is None and behaviour.words is not None:
        text = " ".join((mark, *islice(cycle(_SINGLE), behaviour.words - 1)))
    if text is None:
        text = f"Demo answer {mark}: {_WORDS[int(mark[0], 16) % len(_WORDS)]}."
    tool_call = None
    finish_reason = "length" if behaviour.length else "stop"
    if behaviour.tool:
        tool_call = {"id": f"call_{mark}", "name": _tool_name(body), "arguments": {"text": prompt}}
        finish_reason = "tool_calls"
    return Reply(mark, model, text, finish_reason, tool_call, (characters + 1) // 4, (len(text) + 1) // 4)


def _prompt(body: dict[str, Any]) -> tuple[str, int]:
    """The last user message's text, and how many characters all texts have."""
    if isinstance(body.get("prompt"), str):
        return body["prompt"], len(body["prompt"])
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest("messages must be a list of objects with at least one")
    last, characters = "", len(_text(body.get("system")))
    for message in messages:
        text = _text(message.get("content"))
        characters += len(text)
        if message.get("role") == "user":
            last = text
    return last, characters


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def _tool_name(body: dict[str, Any]) -> str:
    tools = body.get("tools")
    if isinstance(tools, list) and tools and isinstance(tools[0], dict):
        function = tools[0].get("function", tools[0])
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return str(function["name"])
    return "demo_tool"


def chat(r: Reply) -> dict[str, Any]:
    """OpenAI's chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": r.text}
    if r.tool_call:
        function = {"name": r.tool_call["name"], "arguments": orjson.dumps(r.tool_call["arguments"]).decode()}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": r.tool_call["id"], "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": r.finish_reason}
    return {
        "id": f"chatcmpl-{r.id}",
        "object": "chat.completion",
        "created": CREATED,
        "model": r.model,
        "choices": [choice],
        "usage": usage(r),
    }


def completion(r: Reply) -> dict[str, Any]:
    """OpenAI's text completion."""
    choice = {"index": 0, "text": r.text, "logprobs": None, "finish_reason": r.finish_reason}
    return {
        "id": f"cmpl-{r.id}",
        "object": "text_completion",
        "created": CREATED,
        "model": r.model,
        "choices": [choice],
        "usage": usage(r),
    }


def message(r: Reply) -> dict[str, Any]:
    """Anthropic's message."""
    block: dict[str, Any] = {"type": "text", "text": r.text}
    if r.tool_call:
        block = {"type": "tool_use", "id": r.tool_call["id"], "name": r.tool_call["name"], "input": r.tool_call["arguments"]}
    counted = {"input_tokens": r.prompt_tokens, "output_tokens": r.completion_tokens}
    return {"id": f"msg_{r.id}", "type": "message", "role": "assistant", "model": r.model, "content": [block],
            "stop_reason": stop_reason(r), "stop_sequence": None, "usage": counted}  # fmt: skip


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's embeddings: small vectors made from digests."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise BadRequest("input must be a string or a list of strings")
    data = []
    for index, text in enumerate(texts):
        vector: Any = [b / 255 for b in blake2b(text.encode(errors="replace"), digest_size=EMBEDDING_SIZE).digest()]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{EMBEDDING_SIZE}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = (sum(map(len, texts)) + 1) // 4
    return {"object": "list", "data": data, "model": body.get("model"), "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def usage(r: Reply) -> dict[str, int]:
    """OpenAI's counts of tokens."""
    return {
        "prompt_tokens": r.prompt_tokens,
        "completion_tokens": r.completion_tokens,
        "total_tokens": r.prompt_tokens + r.completion_tokens,
    }


def stop_reason(r: Reply) -> str:
    """Anthropic's word for the finish reason."""
    return {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[r.finish_reason]


def error(status: int, text: str, anthropic: bool) -> bytes:
    """An error in the provider's own form."""
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
    kind = kinds.get(status, "api_error" if anthropic else "server_error")
    if anthropic:
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": text}})
    return orjson.dumps({"error": {"message": text, "type": kind, "param": None, "code": None}})


def spoil(answer: dict[str, Any], behaviour: Behaviour) -> bytes:
    """The answer's bytes, damaged as the behaviour says."""
    match behaviour.damage:
        case "garbage":
            return b'{"id": "chatcmpl-1", "choices": [{"message"'
        case "deep":
            return b'{"choices":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
        case "surrogate":
            return orjson.dumps(answer).replace(b'"Demo answer', b'"\\ud800 Demo answer')
        case "nul":
            return orjson.dumps(answer).replace(b'"Demo answer', b'"\\u0000 Demo answer')
        case "wrong-types":
            return orjson.dumps({**answer, "choices": {"0": "none"}, "content": "none", "data": 7})
        case "no-usage":
            return orjson.dumps({k: v for k, v in answer.items() if k != "usage"})
        case "bad-usage":
            wrong = {"prompt_tokens": -5, "completion_tokens": "many", "input_tokens": -5, "output_tokens": None, "total_tokens": 1.5}
            return orjson.dumps({**answer, "usage": wrong})
        case "huge" | "bomb":
            data = orjson.dumps({**answer, "padding": " " * int(behaviour.megabytes * 1_048_576)})
            return gzip.compress(data, compresslevel=1) if behaviour.damage == "bomb" else data
    return orjson.dumps(answer)
