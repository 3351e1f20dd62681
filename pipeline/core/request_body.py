"""Is this body one that the endpoint's task can take? Pure checks, done before anything is put on the stream.

Only what would fail everywhere, or would be honoured by mistake, is refused here, always with the field's name; everything
else is the provider's to judge and is passed on as it came.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import InvalidParameter

# A caller may not say where a request goes or with which key: these would do so in one provider library or another.
ROUTING_FIELDS = (
    "api_base", "api_key", "api_version", "base_url", "custom_llm_provider", "custom_provider_url", "extra_headers", "model_list",
    "openai_api_base", "organization", "user_config",
)  # fmt: skip
NUMBERS = {"max_tokens": int, "max_completion_tokens": int, "n": int, "temperature": (int, float), "top_p": (int, float)}
MAX_CONTEXT_ENTRIES = 100
MAX_CONTEXT_CHARS = 10_000


def refuse_what_is_not_honoured(body: dict[str, Any]) -> None:
    """Raises InvalidParameter for fields that say where to route, and for a stream that is asked for wrongly."""
    for name in ROUTING_FIELDS:
        if name in body:
            raise InvalidParameter(f"{name}: a request cannot choose where it is sent; the endpoint's configuration does. Remove it")
    if "extra_params" in body:
        raise InvalidParameter("extra_params: is not supported; put these parameters beside messages, prompt or input")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidParameter(f"stream: must be true or false, not {_kind(stream)}")
    options = body.get("stream_options")
    if options is None:
        return
    if not stream:
        raise InvalidParameter("stream_options: is only allowed with stream: true")
    if not isinstance(options, dict) or not isinstance(options.get("include_usage", False), bool):
        raise InvalidParameter('stream_options: must be an object such as {"include_usage": true}')


def take_context(body: dict[str, Any]) -> tuple[dict[str, str] | None, str | None]:
    """Remove `usage_context` and `client_request_id`, which are for the gateway and not for the provider, and return them."""
    usage_context = body.pop("usage_context", None)
    if usage_context is not None:
        if not isinstance(usage_context, dict) or not all(isinstance(v, str) for v in usage_context.values()):
            raise InvalidParameter("usage_context: must be an object whose values are strings")
        if len(usage_context) > MAX_CONTEXT_ENTRIES or sum(len(k) + len(v) for k, v in usage_context.items()) > MAX_CONTEXT_CHARS:
            raise InvalidParameter(f"usage_context: at most {MAX_CONTEXT_ENTRIES} entries and {MAX_CONTEXT_CHARS} characters")
    client_request_id = body.pop("client_request_id", None)
    if client_request_id is not None and not (isinstance(client_request_id, str) and len(client_request_id) <= 1_024):
        raise InvalidParameter("client_request_id: must be a string of at most 1024 characters")
    return usage_context, client_request_id


def check(body: dict[str, Any], task: str) -> None:
    """Raises InvalidParameter where the body lacks what the task (`llm/v1/chat` ...) is about."""
    if task == "llm/v1/chat":
        _check_messages(body)
    elif task == "llm/v1/completions":
        _check_texts(body, "prompt")
    else:
        _check_texts(body, "input")
        if body.get("stream"):
            raise InvalidParameter("stream: embeddings can't be streamed; leave stream out")
    for name, kinds in NUMBERS.items():
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):  # type: ignore[arg-type]
            raise InvalidParameter(f"{name}: must be {'an integer' if kinds is int else 'a number'}, not {_kind(value)}")
    stop = body.get("stop")
    if stop is not None and not isinstance(stop, str) and not _all_text(stop):
        raise InvalidParameter("stop: must be a string or a list of strings")


def _check_messages(body: dict[str, Any]) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        given = "is missing" if messages is None else "is empty" if messages == [] else f"is {_kind(messages)}"
        raise InvalidParameter(f'messages: {given}; a chat needs a list like [{{"role": "user", "content": "hello"}}]')
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidParameter(f"messages.{index}: must be an object with role and content, not {_kind(message)}")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise InvalidParameter(f"messages.{index}.role: must be a string such as 'user', not {_kind(role)}")
        if content is not None and not isinstance(content, str):
            if not isinstance(content, list):
                raise InvalidParameter(f"messages.{index}.content: must be a string or a list of parts, not {_kind(content)}")
            for place, part in enumerate(content):
                if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                    raise InvalidParameter(f"messages.{index}.content.{place}: must be an object with a type, not {_kind(part)}")


def _check_texts(body: dict[str, Any], field: str) -> None:
    value = body.get(field)
    if value is None:
        raise InvalidParameter(f"{field}: is missing; it must be a string or a list of strings")
    if value in ("", []) or not (isinstance(value, str) or _all_text(value)):
        raise InvalidParameter(f"{field}: must be a string or a list of strings, not empty")


def _all_text(value: Any) -> bool:
    # Lists of token numbers, which OpenAI takes too, are not text: no guardrail could read them.
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _kind(value: Any) -> str:
    """What JSON calls this value."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else "a number"
