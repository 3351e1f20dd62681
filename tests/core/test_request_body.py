"""What is refused before it travels, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core import request_body
from pipeline.errors import InvalidParameter, PayloadTooLarge, UnsupportedMedia
from pipeline.ingress import http_body

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("body", "task"),
    [
        (CHAT, "llm/v1/chat"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "stop": ["x"], "n": 2}, "llm/v1/chat"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}], "temperature": 1, "top_p": 0.5}, "llm/v1/chat"),
        ({"messages": [{"role": "user", "content": ""}], "max_tokens": None, "anything": {"else": 1}}, "llm/v1/chat"),
        ({"prompt": "hello", "stop": "x"}, "llm/v1/completions"),
        ({"prompt": ["a", "b"]}, "llm/v1/completions"),
        ({"input": "hello"}, "llm/v1/embeddings"),
        ({"input": ["a", "b"]}, "llm/v1/embeddings"),
    ],
)
def test_a_good_body_passes_unchanged(body: dict[str, Any], task: str) -> None:
    request_body.refuse_what_is_not_honoured(body)
    request_body.check(body, task)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages.0"),
        ({"messages": [{"content": "hello"}]}, "messages.0.role"),
        ({"messages": [{"role": 1, "content": "hello"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["hello"]}]}, "messages.0.content.0"),
        ({**CHAT, "max_tokens": "ten"}, "max_tokens"),
        ({**CHAT, "max_tokens": True}, "max_tokens"),
        ({**CHAT, "max_tokens": 1.5}, "max_tokens"),
        ({**CHAT, "temperature": "hot"}, "temperature"),
        ({**CHAT, "stop": 3}, "stop"),
        ({**CHAT, "stop": [3]}, "stop"),
    ],
)
def test_a_wrong_type_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParameter, match=rf"^{named}: "):
        request_body.check(body, "llm/v1/chat")


@pytest.mark.parametrize(("field", "task"), [("prompt", "llm/v1/completions"), ("input", "llm/v1/embeddings")])
@pytest.mark.parametrize("value", [None, "", [], 5, [1, 2], {}])
def test_prompts_and_inputs_are_text(field: str, task: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=rf"^{field}: "):
        request_body.check({field: value}, task)


@pytest.mark.parametrize("field", [*request_body.ROUTING_FIELDS, "extra_params"])
def test_a_request_cannot_choose_where_it_goes(field: str) -> None:
    with pytest.raises(InvalidParameter, match=rf"^{field}: "):
        request_body.refuse_what_is_not_honoured({**CHAT, field: "https://elsewhere.example.com"})


@pytest.mark.parametrize("stream", [1, "yes", {}])
def test_stream_is_a_truth_value_or_absent(stream: object) -> None:
    with pytest.raises(InvalidParameter, match="stream"):
        request_body.refuse_what_is_not_honoured({**CHAT, "stream": stream})
    for good in (True, False, None):
        request_body.refuse_what_is_not_honoured({**CHAT, "stream": good})


def test_embeddings_cannot_be_streamed() -> None:
    with pytest.raises(InvalidParameter, match="stream"):
        request_body.check({"input": "a text", "stream": True}, "llm/v1/embeddings")
    request_body.check({"input": "a text", "stream": False}, "llm/v1/embeddings")


@pytest.mark.parametrize(
    "fields", [{"stream_options": {}}, {"stream": True, "stream_options": []}, {"stream": True, "stream_options": {"include_usage": 1}}]
)
def test_stream_options_need_a_stream_and_the_right_types(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter, match="stream_options"):
        request_body.refuse_what_is_not_honoured({**CHAT, **fields})
    request_body.refuse_what_is_not_honoured({**CHAT, "stream": True, "stream_options": {"include_usage": True}})


def test_usage_context_and_client_request_id_are_taken_out() -> None:
    body = {**CHAT, "usage_context": {"team": "search"}, "client_request_id": "c1"}
    assert request_body.take_context(body) == ({"team": "search"}, "c1")
    assert body == CHAT
    assert request_body.take_context(dict(CHAT)) == (None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("usage_context", "x"),
        ("usage_context", {"a": 1}),
        ("usage_context", {str(n): "" for n in range(101)}),
        ("usage_context", {"a": "x" * 10_001}),
        ("client_request_id", 5),
        ("client_request_id", "x" * 1_025),
    ],
)
def test_wrong_context_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidParameter, match=rf"^{field}: "):
        request_body.take_context({**CHAT, field: value})


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON ; charset=UTF-8"])
def test_json_is_taken(kind: bytes) -> None:
    http_body.check_headers({b"content-type": kind, b"content-length": b"100"}, 100)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"content-type": b"text/plain"},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"application/json; charset=latin-1"},
        {b"content-type": b"application/json", b"content-encoding": b"gzip"},
    ],
)
def test_what_is_not_plain_json_is_415(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(UnsupportedMedia):
        http_body.check_headers(headers, 100)


async def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    pieces = 0

    async def receive() -> dict[str, Any]:
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    with pytest.raises(PayloadTooLarge):
        await http_body.read_json_body({b"content-type": b"application/json"}, receive, 100)
    assert pieces == 2


async def test_a_body_that_ends_early_is_nobodys() -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    with pytest.raises(http_body.ClientGone):
        await http_body.read_json_body({b"content-type": b"application/json"}, receive, 100)
