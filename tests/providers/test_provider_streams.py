"""Streams against the real demo provider: whole they say what a whole answer says, and broken they end as the failure that they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from pipeline.endpoints import ServedEntity
from pipeline.providers.client import ProviderClient
from pipeline.providers.result import Failure
from tests.providers.at_loopback import CHAT, Call, Demo, Stream, until

PROVIDERS = ("openai", "anthropic", "custom")
ASK = "How deep is the lock?"
QUESTION = {"messages": [{"role": "user", "content": ASK}]}
TOOLS = {**QUESTION, "tools": [{"type": "function", "function": {"name": "depth", "parameters": {"type": "object", "properties": {}}}}]}
ESTIMATE = (len(ASK) + 1) // 4


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("model", ["echo+pieces-1", "echo+pieces-5", "echo+pieces-100", "demo", "words-300+length"])
async def test_a_stream_comes_to_what_the_whole_answer_says(stream: Stream, call: Call, model: str, provider: str) -> None:
    whole = await call(model, provider=provider)
    streamed = await stream(model, provider=provider)
    assert whole.body is not None
    (choice,) = whole.body["choices"]
    assert streamed.text == choice["message"]["content"]
    assert streamed.finish_reasons == [choice["finish_reason"]]
    assert streamed.chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
    result = streamed.result
    assert (result.status_code, result.failure, result.error, result.body) == (200, None, None, None)
    assert (result.input_tokens, result.output_tokens) == (whole.input_tokens, whole.output_tokens)
    assert result.served_model_name == whole.served_model_name == model
    assert streamed.chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    for chunk in streamed.chunks:
        assert {"usage", "error"}.isdisjoint(chunk)
        assert (chunk["object"], chunk["model"], chunk["id"]) == ("chat.completion.chunk", model, streamed.chunks[0]["id"])
        assert type(chunk["created"]) is int


async def test_pieces_come_as_the_provider_sends_them(client: ProviderClient, entity: Callable[..., ServedEntity], demo: Demo) -> None:
    items = client.stream(entity("echo+pieces-2+stall-3"), QUESTION, task=CHAT, timeout_s=30, request_id="as-sent")
    async with aclosing(items), asyncio.timeout(10):
        texts = [item["choices"][0]["delta"]["content"] async for item, _ in zip_with(items, 4) if isinstance(item, dict)]
    assert texts == ["", "Ho", "w ", "de"]


async def zip_with(items: Any, count: int) -> Any:
    """The first so many items, and no call for one more."""
    for number in range(count):
        yield await anext(items), number


async def test_completions_stream_too(stream: Stream, call: Call) -> None:
    fields: dict[str, Any] = {"task": "llm/v1/completions", "body": {"prompt": "over the hills"}}
    streamed, whole = await stream("echo+pieces-3", **fields), await call("echo+pieces-3", **fields)
    assert streamed.text == "over the hills"
    assert {chunk["object"] for chunk in streamed.chunks} == {"text_completion"}
    assert streamed.finish_reasons == ["stop"]
    assert (streamed.result.input_tokens, streamed.result.output_tokens) == (whole.input_tokens, whole.output_tokens) == (3, 3)
    assert len(streamed.chunks) == 6


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", [1, 5, 1_000])
async def test_a_tool_calls_arguments_come_in_pieces(stream: Stream, call: Call, provider: str, size: int) -> None:
    model = f"tool+pieces-{size}"
    whole = await call(model, provider=provider, body=TOOLS)
    streamed = await stream(model, provider=provider, body=TOOLS)
    assert whole.body is not None
    (wanted,) = whole.body["choices"][0]["message"]["tool_calls"]
    first, *pieces = streamed.calls
    assert (first["index"], first["id"], first["type"]) == (0, wanted["id"], "function")
    assert first["function"] == {"name": "depth", "arguments": ""}
    arguments = [piece["function"]["arguments"] for piece in pieces]
    assert orjson.loads("".join(arguments)) == orjson.loads(wanted["function"]["arguments"]) == {"text": ASK}
    assert all(piece["index"] == 0 for piece in pieces)
    assert all(len(text) == size for text in arguments[:-1])
    assert streamed.finish_reasons == ["tool_calls"]
    assert streamed.result.output_tokens == whole.output_tokens


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("model", ["no-usage", "bad-usage", "no-usage+whole"])
async def test_missing_or_absurd_counts_are_estimated_from_the_text(stream: Stream, model: str, provider: str) -> None:
    streamed = await stream(f"{model}+say-twelve_chars+pieces-5", provider=provider)
    assert streamed.text == "twelve chars"
    assert streamed.result.failure is None
    assert (streamed.result.input_tokens, streamed.result.output_tokens) == (ESTIMATE, (12 + 1) // 4)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("damage", "said", "words"),
    [
        ("cut-0", 0, "broke off in the middle of its answer"),
        ("cut-3", 12, "broke off in the middle of its answer"),
        ("half", 8, "broke off in the middle of its answer"),
        ("error-0", 0, "broke off: the demo provider was told to break off after 0 pieces"),
        ("error-2", 8, "broke off: the demo provider was told to break off after 2 pieces"),
        ("garbage", 4, "is not valid JSON"),
        ("surrogate", 4, "is not valid JSON"),
        ("deep", 4, "is not valid JSON"),
        ("wrong-types", 4, "has a"),
        ("huge-2", 4, "larger than 1048576 bytes"),
    ],
)
async def test_what_breaks_off_is_the_providers_failure_after_what_came(
    stream: Stream, demo: Demo, provider: str, damage: str, said: int, words: str
) -> None:
    streamed = await stream(f"echo+pieces-4+{damage}", provider=provider)
    assert streamed.text == ASK[:said]
    result = streamed.result
    assert (result.failure, result.status_code, result.body) == (Failure.PROVIDER, 0, None)
    assert words in (result.error or "")
    assert "'primary'" in (result.error or "")
    assert (result.input_tokens, result.output_tokens) == (ESTIMATE, (said + 1) // 4)
    assert streamed.finish_reasons == []
    assert (await stream("demo", provider=provider)).result.failure is None


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("model", "failure", "status"),
    [
        *((f"fail-{s}", Failure.CLIENT, s) for s in (400, 404, 413, 422)),
        ("fail-429", Failure.RATE_LIMITED, 429),
        *((f"fail-{s}", Failure.PROVIDER, s) for s in (401, 403, 500, 503, 529)),
        ("html-502", Failure.PROVIDER, 502),
        ("html-200", Failure.PROVIDER, 0),
        ("redirect", Failure.PROVIDER, 302),
        ("close", Failure.PROVIDER, 0),
        ("whole+garbage", Failure.PROVIDER, 0),
        ("whole+half", Failure.PROVIDER, 0),
        ("whole+huge-2", Failure.PROVIDER, 0),
    ],
)
async def test_what_is_no_stream_at_all_is_a_failure_as_of_any_call(
    stream: Stream, call: Call, provider: str, model: str, failure: Failure, status: int
) -> None:
    streamed, whole = await stream(model, provider=provider), await call(model, provider=provider)
    result = streamed.result
    assert (streamed.chunks, result.failure, result.status_code) == ([], failure, status)
    assert (result.error, result.retry_after_s) == (whole.error, whole.retry_after_s)
    assert result.retry_after_s == (1 if status in (429, 503) else None)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_does_not_stream_is_one_chunk(stream: Stream, call: Call, provider: str) -> None:
    whole = await call("echo", provider=provider)
    streamed = await stream("echo+whole", provider=provider)
    (chunk,) = streamed.chunks
    assert (streamed.text, streamed.finish_reasons, chunk["object"]) == (ASK, ["stop"], "chat.completion.chunk")
    assert (streamed.result.input_tokens, streamed.result.output_tokens) == (whole.input_tokens, whole.output_tokens)
    assert streamed.result.served_model_name == "echo+whole"
    assert "usage" not in chunk
    assert "message" not in chunk["choices"][0]
    (tool,) = (await stream("tool+whole", provider=provider, body=TOOLS)).calls
    assert (tool["index"], tool["function"]["name"], orjson.loads(tool["function"]["arguments"])) == (0, "depth", {"text": ASK})


async def test_a_completion_that_does_not_stream_is_one_chunk(stream: Stream) -> None:
    streamed = await stream("echo+whole", task="llm/v1/completions", body={"prompt": "over the hills"})
    (chunk,) = streamed.chunks
    assert (streamed.text, chunk["object"], streamed.result.output_tokens) == ("over the hills", "text_completion", 3)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("model", "said"), [("stall-0", 0), ("stall-2", 8), ("drip-0.3", None), ("hang", 0), ("slow-30", 0)])
async def test_one_deadline_holds_over_the_whole_stream(stream: Stream, demo: Demo, provider: str, model: str, said: int | None) -> None:
    begin = time.monotonic()
    request_id = f"stream-deadline-{provider}-{model}"
    streamed = await stream(f"echo+pieces-4+{model}", provider=provider, timeout_s=1.0, request_id=request_id)
    assert 0.9 <= time.monotonic() - begin <= 2.0
    assert (streamed.result.failure, streamed.result.status_code) == (Failure.PROVIDER, 0)
    assert "within 1 s" in (streamed.result.error or "")
    assert streamed.text == ASK[:said] if said is not None else ASK.startswith(streamed.text)
    await until(lambda: demo.calls(request_id=request_id)[0]["state"] == "cut off")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("model", ["endless", "endless+drip-0.01", "echo+stall-2"])
async def test_closing_the_stream_ends_the_call(
    client: ProviderClient, entity: Callable[..., ServedEntity], demo: Demo, provider: str, model: str
) -> None:
    request_id = f"closed-{provider}-{model}"
    items = client.stream(entity(model, provider=provider), QUESTION, task=CHAT, timeout_s=60, request_id=request_id)
    async with aclosing(items):
        for _ in range(3):
            await anext(items)
        assert [call["state"] for call in demo.calls(request_id=request_id)] == ["open"]
    await until(lambda: [call["state"] for call in demo.calls(request_id=request_id)] == ["cut off"])


@pytest.mark.parametrize("model", ["endless+drip-0.01", "echo+stall-2", "hang"])
async def test_a_cancelled_stream_raises_and_ends_the_call(stream: Stream, demo: Demo, model: str) -> None:
    task = asyncio.ensure_future(stream(model, request_id=f"cancelled-{model}", timeout_s=60))
    await until(lambda: bool(demo.calls(request_id=f"cancelled-{model}")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: demo.calls(request_id=f"cancelled-{model}")[0]["state"] == "cut off")


async def test_the_cap_is_on_what_is_said_more_than_on_its_wrapping(stream: Stream) -> None:
    """The settings allow 1 MiB: an answer of 100 KB in 25,000 pieces, which are over 5 MB on the wire, is no large one."""
    streamed = await stream("words-20000+pieces-4", timeout_s=60)
    assert streamed.result.failure is None
    assert len(streamed.text.split()) == 20_000
    assert len(streamed.chunks) > 20_000


async def test_a_stream_without_an_end_comes_to_the_cap(stream: Stream, demo: Demo) -> None:
    streamed = await stream("endless+pieces-2", timeout_s=60, request_id="to-the-cap")
    assert streamed.result.failure is Failure.PROVIDER
    assert "larger than 1048576 bytes" in (streamed.result.error or "")
    assert streamed.result.output_tokens == (len(streamed.text) + 1) // 4
    await until(lambda: demo.calls(request_id="to-the-cap")[0]["state"] == "cut off")


async def test_streams_reach_the_calls_they_belong_to(stream: Stream) -> None:
    async def ask(number: int) -> bool:
        text = f"question {number} with some words"
        return (await stream("echo+pieces-3+drip-0.01", body={"messages": [{"role": "user", "content": text}]})).text == text

    assert all(await asyncio.gather(*(ask(n) for n in range(200))))


async def test_what_cannot_be_asked_makes_no_call(stream: Stream, demo: Demo) -> None:
    streamed = await stream("demo", provider="anthropic", body={**QUESTION, "n": 2}, request_id="stream-no-counterpart")
    assert (streamed.chunks, streamed.result.failure) == ([], Failure.CLIENT)
    streamed = await stream("demo", key="{{secrets/prod-a/open.key}}", request_id="stream-no-counterpart")
    assert (streamed.chunks, streamed.result.failure) == ([], Failure.PROVIDER)
    assert "SLUICE_SECRET_PROD_A_OPEN_KEY" in (streamed.result.error or "")
    assert demo.calls(request_id="stream-no-counterpart") == []
