"""Anthropic's Messages API as the provider of a chat endpoint: a chat request becomes a message request, the message a completion.

    system and developer messages  -> `system`, joined by blank lines
    tool calls, tool messages      -> `tool_use` and `tool_result` blocks; neighbours of one role become one message
    max_tokens                     -> 4096 where none is given, since it is required there
    temperature                    -> at most 1

Fields that would change the form of the answer and have no counterpart (several choices, a response format, log probabilities) raise
InvalidParameter; fields that only advise (seed, penalties, user and the like) are left out. An answer of another shape is Garbage. Pure.
"""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.endpoints import ServedEntity
from pipeline.errors import InvalidParameter
from pipeline.providers import anthropic_form as form
from pipeline.providers import secrets, wire
from pipeline.settings import Settings

VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4_096


def outgoing(entity: ServedEntity, body: dict[str, Any], settings: Settings, *, stream: bool) -> wire.Outgoing:
    """The call that asks `entity`, for a whole answer or a stream; SecretMissing where its key can't be found, InvalidParameter where the
    body has no counterpart."""
    headers = [("anthropic-version", VERSION)]
    config = entity.external_model.anthropic_config
    secret = None
    if config and config.anthropic_api_key:
        secret = secrets.resolve(config.anthropic_api_key, settings)
        headers.append(("x-api-key", secret.reveal()))
    request = to_messages(body, entity.external_model.name)
    content = orjson.dumps({**request, "stream": True} if stream else request)
    return wire.Outgoing(f"{settings.anthropic_api_base.rstrip('/')}/v1/messages", headers, content, secret)


def to_messages(body: dict[str, Any], model: str) -> dict[str, Any]:
    """A chat request as a Messages request for `model`; InvalidParameter names what can't be translated."""
    _refuse_other_forms(body)
    system, messages = _messages(form.a_list(body.get("messages"), "messages"))
    request: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": _max_tokens(body)}
    if system:
        request["system"] = system
    for field in ("temperature", "top_p", "top_k"):
        if body.get(field) is not None:
            request[field] = _number(body[field], field)
    if "temperature" in request:
        # OpenAI's scale ends at 2, Anthropic's at 1 and refuses more.
        request["temperature"] = min(request["temperature"], 1)
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else form.a_list(stop or [], "stop")
    if stops:
        request["stop_sequences"] = [form.a_text(s, "stop") for s in stops]
    if body.get("tools"):
        request["tools"] = [form.to_tool(t, f"tools[{i}]") for i, t in enumerate(form.a_list(body["tools"], "tools"))]
        choice = form.to_tool_choice(body.get("tool_choice"), body.get("parallel_tool_calls"))
        if choice is not None:
            request["tool_choice"] = choice
    if isinstance(body.get("user"), str):
        request["metadata"] = {"user_id": body["user"]}
    return request


def _refuse_other_forms(body: dict[str, Any]) -> None:
    if body.get("n") not in (None, 1):
        raise InvalidParameter("n must be 1 with an Anthropic model, which gives one choice; send several requests instead")
    response_format = body.get("response_format")
    if response_format is not None and not (isinstance(response_format, dict) and response_format.get("type") == "text"):
        raise InvalidParameter("response_format is not supported with an Anthropic model; describe the form in the prompt or use a tool")
    for field in ("logprobs", "top_logprobs", "functions", "function_call", "audio"):
        if body.get(field):
            raise InvalidParameter(f"{field} is not supported with an Anthropic model; remove it")


def _max_tokens(body: dict[str, Any]) -> int:
    for field in ("max_completion_tokens", "max_tokens"):
        value = body.get(field)
        if value is not None:
            if type(value) is not int or value < 1:
                raise InvalidParameter(f"{field} must be a whole number of at least 1, not {value!r:.40}")
            return value
    return DEFAULT_MAX_TOKENS


def _number(value: Any, field: str) -> float:
    if type(value) not in (int, float):
        raise InvalidParameter(f"{field} must be a number, not {form.kind(value)}")
    return value  # type: ignore[no-any-return]


def _messages(given: list[Any]) -> tuple[str, list[dict[str, Any]]]:
    """The system prompt, and the messages with neighbours of one role merged."""
    system: list[str] = []
    merged: list[dict[str, Any]] = []
    for index, message in enumerate(given):
        what = f"messages[{index}]"
        role = form.an_object(message, what).get("role")
        if role in ("system", "developer"):
            system += [b["text"] for b in _blocks(message.get("content"), f"{what}.content", pictures=False)]
            continue
        if role == "assistant":
            blocks = _blocks(message.get("content"), f"{what}.content", pictures=False)
            calls = form.a_list(message.get("tool_calls") or [], f"{what}.tool_calls")
            blocks += [form.to_tool_use(c, f"{what}.tool_calls[{i}]") for i, c in enumerate(calls)]
        elif role == "tool":
            blocks = [_tool_result(message, what)]
            role = "user"
        elif role == "user":
            blocks = _blocks(message.get("content"), f"{what}.content", pictures=True)
        else:
            raise InvalidParameter(f"{what}.role must be 'system', 'developer', 'user', 'assistant' or 'tool', not {role!r:.40}")
        if not blocks:
            # Anthropic refuses empty text and messages without content; nothing was said.
            continue
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": blocks})
    if not merged:
        raise InvalidParameter("messages holds nothing but system prompts or empty messages; add a user message with text")
    return "\n\n".join(system), merged


def _tool_result(message: dict[str, Any], what: str) -> dict[str, Any]:
    content = message.get("content")
    result = content if isinstance(content, str) else _blocks(content, f"{what}.content", pictures=True)
    return {"type": "tool_result", "tool_use_id": form.a_text(message.get("tool_call_id"), f"{what}.tool_call_id"), "content": result}


def _blocks(content: Any, what: str, pictures: bool) -> list[dict[str, Any]]:
    """Message content as blocks, without empty text."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks = []
    for index, part in enumerate(form.a_list(content, what)):
        place = f"{what}[{index}]"
        match form.an_object(part, place).get("type"):
            case "text":
                if form.a_text(part.get("text"), f"{place}.text"):
                    blocks.append({"type": "text", "text": part["text"]})
            case "refusal":
                blocks.append({"type": "text", "text": form.a_text(part.get("refusal"), f"{place}.refusal")})
            case "image_url" if pictures:
                blocks.append(form.to_image(part, place))
            case other:
                raise InvalidParameter(f"{place}.type {other!r:.40} is not supported here with an Anthropic model")
    return blocks


def answer(value: dict[str, Any], body: dict[str, Any], created: int) -> wire.Answer:
    """A message as a chat completion made at `created` (epoch seconds); Garbage where it is no message."""
    blocks = value.get("content")
    if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
        raise wire.Garbage("has no list of content blocks")
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        if block.get("type") == "text":
            if not isinstance(block.get("text"), str):
                raise wire.Garbage("has a text block without text")
            texts.append(block["text"])
        elif block.get("type") == "tool_use":
            try:
                calls.append(form.from_tool_use(block, "content"))
            except InvalidParameter:
                raise wire.Garbage("has a tool_use block that is not one") from None
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if calls:
        message["tool_calls"] = calls
    reason = value.get("stop_reason")
    finish = form.FINISH_REASONS.get(reason, "stop") if isinstance(reason, str) else "stop"
    completion: dict[str, Any] = {
        "id": value["id"] if isinstance(value.get("id"), str) else "",
        "object": "chat.completion",
        "created": created,
        "model": value["model"] if isinstance(value.get("model"), str) else "",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    counted_in, cached = input_tokens(value.get("usage"))
    counted_out = wire.token_count(value.get("usage"), "output_tokens")
    tokens_in = wire.estimated_input_tokens(body) if counted_in is None else counted_in
    tokens_out = wire.estimated_output_tokens(completion) if counted_out is None else counted_out
    completion["usage"] = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    if cached:
        completion["usage"]["prompt_tokens_details"] = {"cached_tokens": cached}
    return wire.Answer(completion, tokens_in, tokens_out, completion["model"] or None)


def input_tokens(usage: Any) -> tuple[int | None, int]:
    """All tokens of the prompt, and those of them that were read from the cache: Anthropic counts the three kinds apart."""
    fresh = wire.token_count(usage, "input_tokens")
    if fresh is None:
        return None, 0
    cached = wire.token_count(usage, "cache_read_input_tokens") or 0
    return fresh + cached + (wire.token_count(usage, "cache_creation_input_tokens") or 0), cached
