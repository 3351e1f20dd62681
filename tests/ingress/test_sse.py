"""The bytes of a stream: OpenAI's chunks and Anthropic's events, in order, and errors that nobody takes for an end."""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.core.following import Failure
from pipeline.ingress.sse import AnthropicEvents, OpenAIEvents

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
FAILURE = Failure(502, "BAD_GATEWAY", "the served entity broke off")


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def values(data: bytes) -> list[Any]:
    return [orjson.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]


def test_openais_chunks_go_out_as_they_are_and_end_with_done() -> None:
    events = OpenAIEvents("openai", include_usage=False)
    assert events.chunk(chunk(content="he\nllo")) == b"data: " + orjson.dumps(chunk(content="he\nllo")) + b"\n\n"
    assert events.end(USAGE) == b"data: [DONE]\n\n"


def test_usage_comes_last_where_it_is_asked_for() -> None:
    events = OpenAIEvents("openai", include_usage=True)
    assert values(events.chunk(chunk(content="he")))[0]["usage"] is None
    data = events.end(USAGE)
    assert values(data) == [{"id": "c1", "model": "m", "choices": [], "usage": USAGE}]
    assert data.endswith(b"\n\ndata: [DONE]\n\n")


def test_an_error_has_the_paths_form_and_no_done() -> None:
    (openai,) = values(data := OpenAIEvents("openai", include_usage=False).error(FAILURE))
    assert openai == {"error": {"message": FAILURE.message, "type": "server_error", "param": None, "code": "BAD_GATEWAY"}}
    assert b"[DONE]" not in data
    (databricks,) = values(OpenAIEvents("databricks", include_usage=False).error(FAILURE))
    assert databricks == {"error_code": "BAD_GATEWAY", "message": FAILURE.message, **openai}
    told = AnthropicEvents("chat").error(FAILURE)
    assert told.startswith(b"event: error\n")
    assert values(told)[0]["error"]["type"] == "api_error"


def kinds(events: AnthropicEvents, *chunks: dict[str, Any]) -> list[Any]:
    return [value for made in (*map(events.chunk, chunks), events.end(USAGE)) for value in values(made)]


def test_a_message_is_told_in_blocks() -> None:
    told = kinds(AnthropicEvents("chat"), chunk(role="assistant", content="he"), chunk(content="llo"), chunk("stop"))
    assert [t["type"] for t in told] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert told[0]["message"]["model"] == "chat" and told[0]["message"]["content"] == []
    assert told[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 2},
    }


def test_tool_calls_that_a_provider_mixes_become_blocks_one_after_the_other() -> None:
    def call(number: int, arguments: str, **more: Any) -> dict[str, Any]:
        return {"index": number, "function": {"arguments": arguments, **({"name": f"f{number}"} if more else {})}, **more}

    chunks = [
        chunk(content="I look."),
        chunk(tool_calls=[call(0, '{"a"', id="c0"), call(1, '{"b"', id="c1")]),
        chunk(content=" More."),
        chunk(tool_calls=[call(1, ": 2}"), call(0, ": 1}")]),
        chunk("tool_calls"),
    ]
    told = kinds(AnthropicEvents("chat"), *chunks)
    blocks: dict[int, list[Any]] = {}
    is_open = None
    for event in told:
        if event["type"] == "content_block_start":
            assert is_open is None and event["index"] == len(blocks)
            is_open = event["index"]
            blocks[is_open] = [event["content_block"], ""]
        elif event["type"] == "content_block_delta":
            assert event["index"] == is_open
            blocks[event["index"]][1] += event["delta"].get("text", "") + event["delta"].get("partial_json", "")
        elif event["type"] == "content_block_stop":
            assert event["index"] == is_open
            is_open = None
    assert is_open is None
    assert [(b["type"], b.get("name"), text) for b, text in blocks.values()] == [
        ("text", None, "I look."), ("tool_use", "f0", '{"a": 1}'), ("tool_use", "f1", '{"b": 2}'), ("text", None, " More."),
    ]  # fmt: skip
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_message_without_anything_has_its_start_and_end() -> None:
    assert [t["type"] for t in kinds(AnthropicEvents("chat"))] == ["message_start", "message_delta", "message_stop"]
