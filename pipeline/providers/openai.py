"""OpenAI's wire format, for the providers `openai` and `custom` (vLLM, Ollama and whatever else speaks it).

The body goes out as it came, unknown fields included; only `model` becomes the external model's name, and of a stream the usage is asked
for whether the client did or not. What comes back must have the shape that the task promises, else Garbage; a stream is read by
openai_stream.py. Pure.
"""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.endpoints import ServedEntity
from pipeline.providers import secrets, wire
from pipeline.settings import Settings

_PATHS = {"llm/v1/chat": "/chat/completions", "llm/v1/completions": "/completions", "llm/v1/embeddings": "/embeddings"}
_STREAMING = frozenset({"stream", "stream_options"})


def outgoing(entity: ServedEntity, body: dict[str, Any], task: str, settings: Settings, *, stream: bool) -> wire.Outgoing:
    """The call that asks `entity`, for a whole answer or a stream; SecretMissing where its key can't be found."""
    model = entity.external_model
    fields = {k: v for k, v in body.items() if k not in _STREAMING}
    fields["model"] = model.name
    if stream:
        options = body.get("stream_options")
        fields |= {"stream": True, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}
    headers: list[tuple[str, str]] = []
    secret: secrets.Secret | None = None
    if model.custom_provider_config is not None:
        custom = model.custom_provider_config
        base = custom.custom_provider_url
        if custom.api_key_auth is not None:
            secret = secrets.resolve(custom.api_key_auth.value, settings)
            headers.append((custom.api_key_auth.key, secret.reveal()))
        elif custom.bearer_token_auth is not None:
            secret = secrets.resolve(custom.bearer_token_auth.token, settings)
            headers.append(("Authorization", f"Bearer {secret.reveal()}"))
    else:
        config = model.openai_config
        base = (config and config.openai_api_base) or settings.openai_api_base.rstrip("/")
        if config and config.openai_organization:
            headers.append(("OpenAI-Organization", config.openai_organization))
        if config and config.openai_api_key:
            secret = secrets.resolve(config.openai_api_key, settings)
            headers.append(("Authorization", f"Bearer {secret.reveal()}"))
    path = _PATHS[task]
    # A custom provider's address is sometimes given whole, as its documentation prints it.
    url = base if base.endswith(path) else base + path
    return wire.Outgoing(url, headers, orjson.dumps(fields), secret)


def answer(value: dict[str, Any], body: dict[str, Any], task: str) -> wire.Answer:
    """A provider's answer to `body`, checked, with its usage filled in where it had none; Garbage where it has another shape."""
    if task == "llm/v1/embeddings":
        _check_embeddings(value)
    else:
        _check_choices(value, chat=task == "llm/v1/chat")
    model = value.get("model")
    usage = value.get("usage")
    counted_in = wire.token_count(usage, "prompt_tokens")
    counted_out = 0 if task == "llm/v1/embeddings" else wire.token_count(usage, "completion_tokens")
    input_tokens = wire.estimated_input_tokens(body) if counted_in is None else counted_in
    output_tokens = wire.estimated_output_tokens(value) if counted_out is None else counted_out
    if counted_in is None or counted_out is None or wire.token_count(usage, "total_tokens") is None:
        # Client, row and bill read the same numbers; what the provider said wrongly is not passed on.
        value["usage"] = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
    return wire.Answer(value, input_tokens, output_tokens, model if isinstance(model, str) and model else None)


def _check_choices(value: dict[str, Any], chat: bool) -> None:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise wire.Garbage("has no list of choices")
    for choice in choices:
        if not isinstance(choice, dict):
            raise wire.Garbage("has a choice that is no object")
        if not chat:
            if not isinstance(choice.get("text"), str):
                raise wire.Garbage("has a choice without text")
            continue
        message = choice.get("message")
        if not isinstance(message, dict):
            raise wire.Garbage("has a choice without a message")
        wire.checked_text(message.get("content"), "message content")
        wire.check_tool_calls(message.get("tool_calls"))


def _check_embeddings(value: dict[str, Any]) -> None:
    data = value.get("data")
    if not isinstance(data, list) or not all(isinstance(d, dict) and isinstance(d.get("embedding"), list | str) for d in data):
        raise wire.Garbage("has no list of embeddings")
