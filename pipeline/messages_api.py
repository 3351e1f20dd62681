"""Anthropic's Messages API as a way in: a message request becomes a chat request, the chat completion a message again.

    system, a text or text blocks   -> a system message
    tool_use, tool_result blocks    -> tool calls, tool messages (these before the rest of their user message)
    thinking blocks of past turns   -> left out

What has no counterpart in a chat request raises InvalidParameter with the place and what to do, rather than being dropped; only hints
(cache_control, service_tier) are. Pure. The other direction, Anthropic as a provider, is providers/anthropic.py; what both share is
providers/anthropic_form.py.
"""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.errors import InvalidParameter
from pipeline.providers import anthropic_form as form

# The gateway's own fields, which go through unread.
_GATEWAY_FIELDS = ("client_request_id", "usage_context")
_NUMBERS = ("temperature", "top_p", "top_k")
_HINTS = frozenset({"service_tier", "cache_control"})
_KNOWN = frozenset({"model", "messages", "system", "max_tokens", "metadata", "stop_sequences", "stream", "thinking", "tools", "tool_choice",
                    *_NUMBERS, *_GATEWAY_FIELDS, *_HINTS})  # fmt: skip
_ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                409: "invalid_request_error", 413: "request_too_large", 415: "invalid_request_error", 429: "rate_limit_error",
                503: "overloaded_error", 504: "timeout_error"}  # fmt: skip


def to_chat(body: dict[str, Any]) -> dict[str, Any]:
    """A Messages request as an OpenAI chat body; InvalidParameter names what is wrong or can't be carried over."""
    for field in body:
        if field not in _KNOWN:
            raise InvalidParameter(f"{field!r:.60} is not supported on the messages path and would be ignored; remove it")
    chat: dict[str, Any] = {"model": form.a_text(body.get("model"), "model"), "messages": _messages(body)}
    max_tokens = body.get("max_tokens")
    if type(max_tokens) is not int or max_tokens < 1:
        raise InvalidParameter(f"max_tokens must be a whole number of at least 1, not {max_tokens!r:.40}")
    chat["max_tokens"] = max_tokens
    for field in _NUMBERS:
        if body.get(field) is not None:
            if type(body[field]) not in (int, float):
                raise InvalidParameter(f"{field} must be a number, not {form.kind(body[field])}")
            chat[field] = body[field]
    if body.get("stop_sequences"):
        chat["stop"] = [form.a_text(s, "stop_sequences") for s in form.a_list(body["stop_sequences"], "stop_sequences")]
    if body.get("stream") is not None:
        if not isinstance(body["stream"], bool):
            raise InvalidParameter(f"stream must be true or false, not {form.kind(body['stream'])}")
        chat["stream"] = body["stream"]
    if body.get("thinking") is not None and form.an_object(body["thinking"], "thinking").get("type") != "disabled":
        raise InvalidParameter('thinking is not supported on the messages path; remove it or send {"type": "disabled"}')
    if body.get("tools"):
        chat["tools"] = [form.from_tool(t, f"tools[{i}]") for i, t in enumerate(form.a_list(body["tools"], "tools"))]
    if body.get("tool_choice") is not None:
        chat |= form.from_tool_choice(body["tool_choice"])
    if body.get("metadata") is not None:
        user = form.an_object(body["metadata"], "metadata").get("user_id")
        if user is not None:
            chat["user"] = form.a_text(user, "metadata.user_id")
    chat |= {field: body[field] for field in _GATEWAY_FIELDS if field in body}
    return chat


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    given = form.a_list(body.get("messages"), "messages")
    if not given:
        raise InvalidParameter("messages must hold at least one message")
    messages: list[dict[str, Any]] = []
    system = body.get("system")
    if system:
        texts = [system] if isinstance(system, str) else [_text(b, f"system[{i}]") for i, b in enumerate(form.a_list(system, "system"))]
        messages.append({"role": "system", "content": "\n\n".join(texts)})
    for index, message in enumerate(given):
        what = f"messages[{index}]"
        role = form.an_object(message, what).get("role")
        content = message.get("content")
        if role not in ("user", "assistant"):
            raise InvalidParameter(f"{what}.role must be 'user' or 'assistant', not {role!r:.40}; a system prompt goes into 'system'")
        if isinstance(content, str):
            messages.append({"role": role, "content": content})
        elif role == "user":
            messages += _user(form.a_list(content, f"{what}.content"), f"{what}.content")
        else:
            messages.append(_assistant(form.a_list(content, f"{what}.content"), f"{what}.content"))
    return messages


def _text(block: Any, what: str) -> str:
    if form.an_object(block, what).get("type") != "text":
        raise InvalidParameter(f"{what}.type must be 'text', not {block.get('type')!r:.40}")
    return form.a_text(block.get("text"), f"{what}.text")


def _user(blocks: list[Any], what: str) -> list[dict[str, Any]]:
    """A user message's blocks as tool messages and one user message."""
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        place = f"{what}[{index}]"
        if form.an_object(block, place).get("type") == "tool_result":
            content = block.get("content")
            if not isinstance(content, str):
                content = _plain([_part(b, f"{place}.content[{i}]") for i, b in enumerate(form.a_list(content or [], f"{place}.content"))])
            call_id = form.a_text(block.get("tool_use_id"), f"{place}.tool_use_id")
            results.append({"role": "tool", "tool_call_id": call_id, "content": content})
        else:
            parts.append(_part(block, place))
    if parts or not results:
        results.append({"role": "user", "content": _plain(parts)})
    return results


def _part(block: Any, what: str) -> dict[str, Any]:
    match form.an_object(block, what).get("type"):
        case "text":
            return {"type": "text", "text": form.a_text(block.get("text"), f"{what}.text")}
        case "image":
            return form.from_image(block, what)
        case other:
            raise InvalidParameter(
                f"{what}.type {other!r:.40} is not supported; there are 'text', 'image' and, from the user, 'tool_result'"
            )


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text alone as text, which every provider takes; otherwise the parts."""
    if not parts:
        return ""
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _assistant(blocks: list[Any], what: str) -> dict[str, Any]:
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        place = f"{what}[{index}]"
        match form.an_object(block, place).get("type"):
            case "tool_use":
                calls.append(form.from_tool_use(block, place))
            case "thinking" | "redacted_thinking":
                continue
            case _:
                texts.append(_text(block, place))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return {**message, "tool_calls": calls} if calls else message


def from_chat(answer: dict[str, Any], model: str) -> dict[str, Any]:
    """A chat completion as a message by `model`, the name that the caller asked for. Never raises for what a provider may have sent."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice["message"] if isinstance(choice.get("message"), dict) else {}
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": t} for t in (_said(message.get("content")), _said(message.get("refusal"))) if t
    ]
    calls = message.get("tool_calls")
    blocks += [tool_use(c, i) for i, c in enumerate(calls if isinstance(calls, list) else [])]
    reason = choice.get("finish_reason")
    given_id = answer.get("id")
    identity = given_id if isinstance(given_id, str) and given_id else "0"
    return {
        "id": identity if identity.startswith("msg_") else f"msg_{identity}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": form.STOP_REASONS.get(reason, "end_turn") if isinstance(reason, str) else "end_turn",
        "stop_sequence": None,
        "usage": usage_of(answer.get("usage")),
    }


def _said(content: Any) -> str:
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return content if isinstance(content, str) else ""


def tool_use(call: Any, index: int) -> dict[str, Any]:
    """A chat's tool call as a block; `index` names it where it has no id."""
    call = call if isinstance(call, dict) else {}
    function = call["function"] if isinstance(call.get("function"), dict) else {}
    text = function.get("arguments")
    try:
        arguments = orjson.loads(text) if isinstance(text, str) and text else {}
    except ValueError:
        arguments = text
    if not isinstance(arguments, dict):
        # A model may break off in the middle of its arguments; the block takes only an object.
        arguments = {"invalid_arguments": text}
    identity, name = call.get("id"), function.get("name")
    return {
        "type": "tool_use",
        "id": identity if isinstance(identity, str) and identity else f"toolu_{index}",
        "name": name if isinstance(name, str) else "",
        "input": arguments,
    }


def usage_of(usage: Any) -> dict[str, int]:
    """The tokens of an answer. Anthropic counts cached tokens beside the others, OpenAI among them."""

    def count(value: Any, field: str) -> int:
        number = value.get(field) if isinstance(value, dict) else None
        return number if type(number) is int and number >= 0 else 0

    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    prompt = count(usage, "prompt_tokens")
    cached = min(count(details, "cached_tokens"), prompt)
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": count(usage, "completion_tokens"),
    }


def error_body(error_code: str, status_code: int, message: str) -> dict[str, Any]:
    """An error in Anthropic's form; `error_code` (contract, part 2) stands beside the type."""
    kind = _ERROR_TYPES.get(status_code, "api_error" if status_code >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message, "error_code": error_code}}
