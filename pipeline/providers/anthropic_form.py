"""What both directions between OpenAI's chat form and Anthropic's Messages form share: vocabulary, pictures, tools, tool choices.

`to_...` goes from OpenAI's to Anthropic's, `from_...` back. Used by providers/anthropic.py (the gateway calls Anthropic) and
messages_api.py (an Anthropic client calls the gateway). Pure; a value that has no counterpart raises InvalidParameter.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from pipeline.errors import InvalidParameter

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
FINISH_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length",
                  "model_context_window_exceeded": "length", "tool_use": "tool_calls", "refusal": "content_filter"}  # fmt: skip
_DATA_URI = re.compile(r"data:(image/[A-Za-z0-9.+-]+);base64,")
_NO_PARAMETERS = {"type": "object", "properties": {}}


def an_object(value: Any, what: str) -> dict[str, Any]:
    """`value` as an object, or InvalidParameter."""
    if not isinstance(value, dict):
        raise InvalidParameter(f"{what} must be an object, not {kind(value)}")
    return value


def a_list(value: Any, what: str) -> list[Any]:
    """`value` as a list, or InvalidParameter."""
    if not isinstance(value, list):
        raise InvalidParameter(f"{what} must be a list, not {kind(value)}")
    return value


def a_text(value: Any, what: str) -> str:
    """`value` as text, or InvalidParameter."""
    if not isinstance(value, str):
        raise InvalidParameter(f"{what} must be a string, not {kind(value)}")
    return value


def kind(value: Any) -> str:
    """The JSON type of a value, as messages name it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def to_image(part: dict[str, Any], what: str) -> dict[str, Any]:
    """An `image_url` part as an `image` block."""
    given = part.get("image_url")
    url = a_text(given.get("url") if isinstance(given, dict) else given, f"{what}.image_url.url")
    match = _DATA_URI.match(url)
    if match:
        return {"type": "image", "source": {"type": "base64", "media_type": match[1], "data": url[match.end() :]}}
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise InvalidParameter(f"{what}.image_url.url must be an http(s) address or data:image/...;base64,...")


def from_image(block: dict[str, Any], what: str) -> dict[str, Any]:
    """An `image` block as an `image_url` part."""
    source = an_object(block.get("source"), f"{what}.source")
    match source.get("type"):
        case "base64":
            media_type, data = (
                a_text(source.get("media_type"), f"{what}.source.media_type"),
                a_text(source.get("data"), f"{what}.source.data"),
            )
            url = f"data:{media_type};base64,{data}"
        case "url":
            url = a_text(source.get("url"), f"{what}.source.url")
        case other:
            raise InvalidParameter(f"{what}.source.type must be 'base64' or 'url', not {other!r:.40}")
    return {"type": "image_url", "image_url": {"url": url}}


def to_tool_use(call: Any, what: str) -> dict[str, Any]:
    """A tool call of an assistant message as a `tool_use` block."""
    function = an_object(an_object(call, what).get("function"), f"{what}.function")
    text = function.get("arguments") or "{}"
    try:
        arguments = orjson.loads(a_text(text, f"{what}.function.arguments"))
    except ValueError:
        raise InvalidParameter(f"{what}.function.arguments must be JSON text") from None
    return {
        "type": "tool_use",
        "id": a_text(call.get("id"), f"{what}.id"),
        "name": a_text(function.get("name"), f"{what}.function.name"),
        "input": an_object(arguments, f"{what}.function.arguments"),
    }


def from_tool_use(block: dict[str, Any], what: str) -> dict[str, Any]:
    """A `tool_use` block as a tool call."""
    arguments = orjson.dumps(an_object(block.get("input", {}), f"{what}.input")).decode()
    function = {"name": a_text(block.get("name"), f"{what}.name"), "arguments": arguments}
    return {"id": a_text(block.get("id"), f"{what}.id"), "type": "function", "function": function}


def to_tool(tool: Any, what: str) -> dict[str, Any]:
    """A tool definition, OpenAI's to Anthropic's."""
    if an_object(tool, what).get("type", "function") != "function":
        raise InvalidParameter(f"{what}.type must be 'function', not {tool['type']!r:.40}")
    function = an_object(tool.get("function"), f"{what}.function")
    made = {"name": a_text(function.get("name"), f"{what}.function.name")}
    if function.get("description") is not None:
        made["description"] = a_text(function["description"], f"{what}.function.description")
    return {**made, "input_schema": an_object(function.get("parameters") or _NO_PARAMETERS, f"{what}.function.parameters")}


def from_tool(tool: Any, what: str) -> dict[str, Any]:
    """A tool definition, Anthropic's to OpenAI's."""
    if an_object(tool, what).get("type") not in (None, "custom"):
        raise InvalidParameter(
            f"{what}.type {tool['type']!r:.60} is a tool that runs at the provider; only tools of the client's own work here"
        )
    function = {"name": a_text(tool.get("name"), f"{what}.name")}
    if tool.get("description") is not None:
        function["description"] = a_text(tool["description"], f"{what}.description")
    return {"type": "function", "function": {**function, "parameters": an_object(tool.get("input_schema"), f"{what}.input_schema")}}


def to_tool_choice(choice: Any, parallel: Any) -> dict[str, Any] | None:
    """`tool_choice` and `parallel_tool_calls` as Anthropic's `tool_choice`; None where nothing was chosen."""
    made: dict[str, Any] | None
    match choice:
        case None:
            made = None
        case "auto" | "none":
            made = {"type": choice}
        case "required":
            made = {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            made = {"type": "tool", "name": name}
        case _:
            raise InvalidParameter(
                'tool_choice must be \'auto\', \'none\', \'required\' or {"type": "function", "function": {"name": ...}}'
            )
    if parallel is False and (made is None or made["type"] != "none"):
        made = {**(made or {"type": "auto"}), "disable_parallel_tool_use": True}
    return made


def from_tool_choice(choice: Any) -> dict[str, Any]:
    """Anthropic's `tool_choice` as the fields of a chat request."""
    fields: dict[str, Any]
    match choice:
        case {"type": "auto" | "none" as same}:
            fields = {"tool_choice": same}
        case {"type": "any"}:
            fields = {"tool_choice": "required"}
        case {"type": "tool", "name": str(name)}:
            fields = {"tool_choice": {"type": "function", "function": {"name": name}}}
        case _:
            raise InvalidParameter('tool_choice must be an object whose type is "auto", "any", "none" or "tool" (with a name)')
    if choice.get("disable_parallel_tool_use") is True:
        fields["parallel_tool_calls"] = False
    return fields
