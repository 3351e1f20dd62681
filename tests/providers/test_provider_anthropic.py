"""Anthropic as a provider: the translation of single fields, of whole conversations, and of whatever else somebody sends."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from pipeline.errors import InvalidParameter
from pipeline.providers import anthropic

PICTURE = "data:image/png;base64,aGVsbG8="
HELLO = {"role": "user", "content": "hello"}


def to_messages(**fields: Any) -> dict[str, Any]:
    return anthropic.to_messages({"messages": [HELLO], **fields}, "claude")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, {"max_tokens": 4096}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"temperature": 0.3, "top_p": 0.9}, {"temperature": 0.3, "top_p": 0.9}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"n": 1, "seed": 3, "presence_penalty": 1, "stream": True, "response_format": {"type": "text"}}, {}),
    ],
)
def test_a_field_is_translated(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert to_messages(**fields) == {"model": "claude", "messages": messages, "max_tokens": 4096, **wanted}


def test_system_prompts_are_collected_and_neighbours_merged() -> None:
    given_messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "image_url", "image_url": {"url": PICTURE}}]},
        {"role": "developer", "content": "Be kind."}, {"role": "assistant", "content": ""}, {"role": "assistant", "content": "three"},
    ]  # fmt: skip
    made = anthropic.to_messages({"messages": given_messages}, "claude")
    assert made["system"] == "Be brief.\n\nBe kind."
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    assert made["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}, picture]},
        {"role": "assistant", "content": [{"type": "text", "text": "three"}]},
    ]


def test_a_conversation_with_tools_is_translated() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Basel"}'}}
    made = to_messages(
        messages=[
            HELLO,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        tools=[{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
    )
    assert made["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Basel"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]},
    ]
    assert made["tools"] == [{"name": "weather", "description": "d", "input_schema": {"type": "object"}}]
    assert made["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 2}, "n must be 1"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": "hello"}, "messages must be a list, not a string"),
        ({"messages": []}, "add a user message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "add a user message"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]}, "image_url.url"),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}]},
            "arguments",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "maybe"}, "tool_choice"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        to_messages(**fields)
    assert words in raised.value.message


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"), ("refusal", "content_filter"),
     ("something new", "stop"), (None, "stop")],
)  # fmt: skip
def test_a_message_becomes_a_completion_that_openais_client_takes(reason: str | None, finish: str) -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 5}
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello "}, {"type": "text", "text": "there"},
               {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Basel"}}]  # fmt: skip
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": content,
        "stop_reason": reason,
        "usage": usage,
    }
    Message.model_validate({**message, "stop_reason": None, "stop_sequence": None, "content": content[1:]})
    answer = anthropic.answer(message, {}, created=17)
    completion = ChatCompletion.model_validate(answer.body)
    assert completion.choices[0].finish_reason == finish
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].message.tool_calls is not None
    assert answer.body["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Basel"}'}
    assert (answer.input_tokens, answer.output_tokens, answer.model) == (17, 5, "claude-x")
    assert answer.body["usage"] == {
        "prompt_tokens": 17,
        "completion_tokens": 5,
        "total_tokens": 22,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "role", "content", "function", "id", "url"]), inner)
    ),
    max_leaves=12,
)
FIELDS = ("messages", "stop", "tools", "tool_choice", "max_tokens", "temperature", "n", "user", "response_format")


@given(
    st.fixed_dictionaries(
        {}, optional={f: JSON | st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON)) for f in FIELDS}
    )
)
def test_any_body_is_translated_or_refused_by_name(body: dict[str, Any]) -> None:
    try:
        made = anthropic.to_messages(body, "claude")
    except InvalidParameter as exc:
        assert exc.message
        return
    roles = [m["role"] for m in made["messages"]]
    assert roles and all(a != b for a, b in zip(roles, roles[1:], strict=False))
    assert all(m["content"] for m in made["messages"])
