"""Streams byte for byte as providers, and servers like theirs, may send them: what is passed on, what is mended, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.together import Together
from pipeline.endpoints import ServedEntity
from pipeline.providers.anthropic_stream import AnthropicStream
from pipeline.providers.client import ProviderClient
from pipeline.providers.openai_stream import OpenAIStream
from pipeline.providers.result import Failure
from pipeline.providers.sse import Event
from pipeline.providers.wire import BrokenOff, Garbage
from pipeline.settings import Settings
from tests.providers.at_loopback import CANARY, CHAT, ScriptedProvider, Streamed, read

QUESTION = {"messages": [{"role": "user", "content": "hello"}]}
Scripted = Callable[..., Any]


@pytest.fixture
def scripted(entity: Callable[..., ServedEntity], settings: Settings) -> Scripted:
    """Reads a stream from a provider that answers with these bytes."""

    async def ask(
        answer: bytes, *, provider: str = "openai", body: dict[str, Any] = QUESTION, media_type: str = "text/event-stream", **more: Any
    ) -> tuple[Streamed, ScriptedProvider]:
        async with ScriptedProvider(answer, media_type=media_type, **more) as server:
            client = ProviderClient(settings.model_copy(update={"anthropic_api_base": server.url.removesuffix("/v1")}))
            await client.start()
            items = client.stream(entity("m", provider, base=server.url), body, task=CHAT, timeout_s=5, request_id="1")
            streamed = await read(items)
            await client.stop()
        return streamed, server

    return ask


def delta(change: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": change, "finish_reason": finish}], **more}


def data(*values: Any) -> bytes:
    return b"".join(b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n" for value in values)


HELLO, END, DONE = delta({"content": "hello"}), delta({}, "stop"), b"[DONE]"
START = {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
SAID = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}
STOPS = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}


@pytest.mark.parametrize(
    ("provider", "answer"),
    [
        ("openai", data(HELLO, END, DONE)),
        ("openai", data(HELLO, END)),
        ("openai", data(HELLO, DONE)),
        ("openai", data(HELLO, END, DONE).replace(b"\n", b"\r\n")),
        ("openai", data(HELLO, END, DONE).replace(b"data: ", b"data:")),
        ("openai", data({"choices": [], "prompt_filter_results": []}, HELLO, END, DONE)),
        ("openai", b": keep-alive\n\n" + data(HELLO) + b"id: 3\nretry: 10\n\n" + data(END, DONE)),
        ("openai", data(HELLO, END, DONE, b"{what comes behind the end", HELLO)),
        ("openai", data({"choices": [{"delta": {"content": "hello"}}]}, {"choices": [{"finish_reason": "stop"}]}, DONE)),
        ("openai", data(delta({"content": "hello"}, model=None, id=7, created="now"), END, DONE)),
        ("anthropic", data(START, TEXT, SAID, STOPS, STOP)),
        ("anthropic", data(START, TEXT, SAID, STOPS)),
        ("anthropic", data(START, TEXT, SAID, STOPS, STOP, b"{what comes behind the end")),
        ("anthropic", data(START, {"type": "ping"}, {"type": "something_new", "index": "x"}, TEXT, SAID, STOPS, STOP)),
        ("anthropic", data(START, {**TEXT, "content_block": {"type": "text", "text": "hello"}}, STOPS, STOP)),
    ],
)
async def test_good_streams(scripted: Scripted, provider: str, answer: bytes) -> None:
    streamed, _ = await scripted(answer, provider=provider)
    assert (streamed.text, streamed.result.failure, streamed.result.status_code) == ("hello", None, 200)
    for chunk in streamed.chunks:
        assert (type(chunk["id"]), type(chunk["created"]), type(chunk["model"])) == (str, int, str)
        assert chunk["object"] == "chat.completion.chunk"


@pytest.mark.parametrize(
    ("provider", "answer", "words"),
    [
        ("openai", b"", "ends in the middle"),
        ("openai", b": nothing\n\n", "ends in the middle"),
        ("openai", data(DONE), "ends in the middle"),
        ("openai", data(HELLO), "ends in the middle"),
        ("openai", data(HELLO, delta({}, 7)), "finish_reason"),
        ("openai", data(HELLO, {"id": "x"}), "list of choices"),
        ("openai", data(HELLO, [1]), "not a JSON object"),
        ("openai", data(HELLO, {"choices": [{"index": -1, "delta": {}}]}), "number"),
        ("openai", data(HELLO, {"choices": [{"index": 1_000, "delta": {}}]}), "number"),
        ("openai", data(delta("text")), "without a delta"),
        ("openai", data(delta({"content": ["x"]})), "no text"),
        ("openai", data(delta({"tool_calls": {"0": 1}})), "tool calls"),
        ("openai", data(HELLO) + b"event: error\n" + data({"message": "too much"}), "broke off: too much"),
        ("openai", data(HELLO, {"error": {"message": "two\nlines"}}), "broke off: two lines"),
        ("openai", data(HELLO, {"error": {}}), "an error without words"),
        ("anthropic", b"", "ends in the middle"),
        ("anthropic", data(STOP), "ends in the middle"),
        ("anthropic", data(START, TEXT, SAID), "ends in the middle"),
        ("anthropic", data({"type": "message_start"}), "message is no object"),
        ("anthropic", data(START, {**TEXT, "index": None}), "without a number"),
        ("anthropic", data(START, TEXT, {**SAID, "delta": {"type": "text_delta"}}), "without text"),
        ("anthropic", data(START, {**TEXT, "content_block": {"type": "tool_use", "id": 3}}), "tool_use"),
        ("anthropic", data(START, {"index": 0}), "without a type"),
        (
            "anthropic",
            data(START, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            "broke off: Overloaded",
        ),
    ],
)
async def test_streams_that_are_none(scripted: Scripted, provider: str, answer: bytes, words: str) -> None:
    streamed, _ = await scripted(answer, provider=provider)
    assert (streamed.result.failure, streamed.result.status_code) == (Failure.PROVIDER, 0)
    assert words in (streamed.result.error or "")
    assert "\n" not in (streamed.result.error or "")


async def test_a_rate_limit_met_on_the_way_is_one(scripted: Scripted) -> None:
    limit = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    for provider, answer in (("anthropic", data(START, limit)), ("openai", data(HELLO, limit))):
        streamed, _ = await scripted(answer, provider=provider)
        assert streamed.result.failure is Failure.RATE_LIMITED


@pytest.mark.parametrize(("provider", "answer"), [("openai", data(HELLO, END, DONE)), ("anthropic", data(START, TEXT, SAID, STOPS, STOP))])
async def test_a_connection_that_breaks_after_the_end_breaks_nothing(scripted: Scripted, provider: str, answer: bytes) -> None:
    streamed, _ = await scripted(answer, provider=provider, missing_bytes=5)
    assert (streamed.text, streamed.result.failure) == ("hello", None)
    cut, _ = await scripted(answer.removesuffix(data(DONE)).removesuffix(data(STOP)), provider=provider, missing_bytes=5)
    assert (cut.text, cut.result.failure) == ("hello", Failure.PROVIDER)


async def test_the_connection_is_used_again_after_a_stream(entity: Callable[..., ServedEntity], client: ProviderClient) -> None:
    answer = data(HELLO, END, DONE)
    connections = 0
    said: asyncio.Queue[None] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                writer.write(b"%x\r\n%b\r\n" % (len(answer), answer))
                # The body's end for itself, when the answer's has been read.
                await said.get()
                writer.write(b"0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        for number in range(5):
            items = client.stream(entity("m", base=base), QUESTION, task=CHAT, timeout_s=5, request_id=str(number))
            async for item in items:
                if isinstance(item, dict):
                    assert item["choices"][0]["delta"] in ({"content": "hello"}, {})
                    if item["choices"][0]["finish_reason"]:
                        said.put_nowait(None)
                else:
                    assert item.failure is None
        await client.stop()
    assert connections == 1


async def test_a_compressed_stream_is_read(scripted: Scripted) -> None:
    packed = gzip.compress(data(HELLO, END, DONE))
    streamed, _ = await scripted(packed, extra="Content-Encoding: gzip\r\n", media_type="text/event-stream; charset=utf-8")
    assert (streamed.text, streamed.result.failure) == ("hello", None)
    # Without the checksum: what was said before the end counts, an end that may be missing does not.
    cut, _ = await scripted(packed[:-8], extra="Content-Encoding: gzip\r\n")
    assert (cut.text, cut.result.failure) == ("hello", None)
    cut, _ = await scripted(gzip.compress(data(HELLO, END))[:-8], extra="Content-Encoding: gzip\r\n")
    assert "ends in the middle" in (cut.result.error or "")
    other, _ = await scripted(data(HELLO, END, DONE), extra="Content-Encoding: br\r\n")
    assert "compressed in a way" in (other.result.error or "")
    assert other.chunks == []


@pytest.mark.parametrize("provider", ["openai", "anthropic", "custom"])
async def test_what_is_asked_for(scripted: Scripted, provider: str) -> None:
    body = {**QUESTION, "stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}, "max_tokens": 7}
    before = orjson.dumps(body)
    _, server = await scripted(b"", provider=provider, body=body)
    assert orjson.dumps(body) == before
    sent = orjson.loads(server.body)
    assert (sent["stream"], sent["model"], sent["max_tokens"]) == (True, "m", 7)
    wanted = None if provider == "anthropic" else {"include_usage": True, "include_obfuscation": False}
    assert sent.get("stream_options") == wanted
    assert server.headers["accept"] == "application/json, text/event-stream"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "custom"])
@pytest.mark.parametrize("broken", [False, True])
async def test_the_key_never_comes_out(scripted: Scripted, caplog: pytest.LogCaptureFixture, provider: str, broken: bool) -> None:
    said = {**SAID, "delta": {"type": "text_delta", "text": f"it is {CANARY}"}} if provider == "anthropic" else delta({"content": CANARY})
    error = {"type": "error", "error": {"type": CANARY, "message": f"wrong key {CANARY}"}}
    head = [START, TEXT, said] if provider == "anthropic" else [said]
    end = [error] if broken else [STOPS, STOP] if provider == "anthropic" else [delta({}, CANARY, model=CANARY), DONE]
    with caplog.at_level(logging.DEBUG):
        streamed, server = await scripted(data(*head, *end), provider=provider)
    assert CANARY in str(server.headers)
    assert "***" in streamed.text
    assert CANARY not in repr(streamed)
    assert CANARY not in caplog.text
    assert (streamed.result.failure is not None) == broken


async def test_unknown_fields_of_a_chunk_go_on_and_the_counts_do_not(scripted: Scripted) -> None:
    known = {"index": 0, "delta": {"content": "hello", "reasoning": "why", "new": [1]}, "logprobs": {"content": []}, "finish_reason": None}
    usage = {"prompt_tokens": 11, "completion_tokens": 13, "total_tokens": 24}
    answer = data({"choices": [known], "citations": ["a"], "usage": None}, END, {"usage": usage}, {"choices": [], "usage": None}, DONE)
    streamed, _ = await scripted(answer)
    assert streamed.chunks[0]["choices"] == [known]
    assert streamed.chunks[0]["citations"] == ["a"]
    assert all("usage" not in chunk for chunk in streamed.chunks)
    assert (streamed.result.input_tokens, streamed.result.output_tokens) == (11, 13)


async def test_several_choices_end_each_for_itself(scripted: Scripted) -> None:
    def of(index: int, finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"content": str(index)}, "finish_reason": finish}]}

    streamed, _ = await scripted(data(of(0), of(1), of(0, "stop"), of(1, "length")))
    assert (streamed.text, streamed.finish_reasons, streamed.result.failure) == ("0101", ["stop", "length"], None)
    streamed, _ = await scripted(data(of(0), of(1), of(0, "stop")))
    assert "ends in the middle" in (streamed.result.error or "")


async def test_tool_calls_without_a_number_get_one(scripted: Scripted) -> None:
    def call(arguments: str, **fields: Any) -> dict[str, Any]:
        return {"function": {"name": "f", "arguments": arguments}, **fields}

    calls = [call("{", id="a"), call("}"), call("[", id="b"), call("]", id="b")]
    streamed, _ = await scripted(data(*(delta({"tool_calls": [c]}) for c in calls), delta({}, "tool_calls"), DONE))
    assert [c["index"] for c in streamed.calls] == [0, 0, 1, 1]
    numbered, _ = await scripted(data(delta({"tool_calls": [call("x", index=3, id="c")]}), END))
    assert [c["index"] for c in numbered.calls] == [3]


async def test_a_whole_answer_whose_content_is_parts_is_said_as_text(scripted: Scripted) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "reference", "ids": [1]}, {"type": "text", "text": "lo"}]
    answer = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}]})
    streamed, _ = await scripted(answer, media_type="application/json")
    assert (streamed.text, streamed.result.failure) == ("hello", None)
    together = Together()
    together.add(streamed.chunks[0])
    assert together.body({})["choices"][0]["message"]["content"] == "hello"


async def test_anthropics_blocks_become_text_and_numbered_calls(scripted: Scripted) -> None:
    def start(index: int, **block: Any) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": block}

    def change(index: int, kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    usage = {"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 100, "output_tokens": 1}
    streamed, _ = await scripted(
        data(
            {"type": "message_start", "message": {**START["message"], "usage": usage}},  # type: ignore[dict-item]
            start(0, type="thinking", thinking=""), change(0, "thinking_delta", thinking="hm"), change(0, "signature_delta", signature="x"),
            stop(0), start(1, type="text", text="Look: "), change(1, "text_delta", text="two"), stop(1),
            start(2, type="tool_use", id="a", name="f", input={}), change(2, "input_json_delta", partial_json=""),
            change(2, "input_json_delta", partial_json='{"n":'), change(2, "input_json_delta", partial_json=" 1}"), stop(2),
            start(3, type="tool_use", id="b", name="g", input={"given": "whole"}), stop(3),
            start(4, type="tool_use", id="c", name="h", input={}), stop(4),
            start(5, type="server_tool_use", id="d", name="web", input={}), change(5, "input_json_delta", partial_json="{}"), stop(5),
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9, "input_tokens": None}}, STOP,
        ),
        provider="anthropic",
    )  # fmt: skip
    together = Together()
    for chunk in streamed.chunks:
        together.add(chunk)
    message = together.body({})["choices"][0]["message"]
    assert message["content"] == "Look: two"
    assert [(c["id"], c["function"]["name"], orjson.loads(c["function"]["arguments"])) for c in message["tool_calls"]] == [
        ("a", "f", {"n": 1}), ("b", "g", {"given": "whole"}), ("c", "h", {}),
    ]  # fmt: skip
    assert streamed.finish_reasons == ["tool_calls"]
    assert (streamed.result.input_tokens, streamed.result.output_tokens) == (123, 9)
    assert streamed.result.served_model_name == "claude"


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_tokens", "length"), ("stop_sequence", "stop"), ("new", "stop"), (7, "stop"), ({"a": 1}, "stop")]
)
async def test_anthropics_reasons(scripted: Scripted, reason: Any, finish: str) -> None:
    streamed, _ = await scripted(data(START, TEXT, SAID, {**STOPS, "delta": {"stop_reason": reason}}, STOP), provider="anthropic")
    assert streamed.finish_reasons == [finish]


NAMES = ["type", "index", "delta", "choices", "error", "usage", "content_block", "id", "model", "text", "content", "name",
         "tool_calls", "function", "arguments", "finish_reason", "stop_reason", "input", "partial_json", "output_tokens"]  # fmt: skip
WORDS = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "error",
         "text", "tool_use", "text_delta", "input_json_delta", "stop", "end_turn"]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(WORDS)},
    optional={
        "index": st.integers(0, 2) | JSON,
        "choices": st.lists(st.fixed_dictionaries({"delta": JSON}, optional={"index": JSON, "text": JSON}) | JSON, max_size=2) | JSON,
        "delta": st.fixed_dictionaries({"type": st.sampled_from(WORDS)}, optional={"text": JSON, "partial_json": JSON}) | JSON,
        "content_block": st.fixed_dictionaries({"type": st.sampled_from(WORDS), "id": JSON, "name": JSON}) | JSON,
        "message": JSON, "usage": JSON, "error": JSON, "model": JSON,
    },
)  # fmt: skip


@given(st.lists(EVENT, max_size=6), st.sampled_from([OpenAIStream, AnthropicStream]), st.sampled_from([CHAT, "llm/v1/completions"]))
def test_whatever_comes_is_chunks_or_refused_in_words(events: list[Any], form: Any, task: str) -> None:
    answer, together = form(task, 1), Together()
    with contextlib.suppress(Garbage, BrokenOff):
        for event in events:
            for chunk in answer.take(Event("", orjson.dumps(event))):
                assert isinstance(chunk["choices"], list)
                orjson.dumps(chunk)
                together.add(chunk)
    assert all(count is None or count >= 0 for count in answer.tokens)
    orjson.dumps(together.body({}))
