"""The client against the real demo provider: what every behaviour of a provider comes to, and what must never come out."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from pipeline.endpoints import ServedEntity
from pipeline.providers.client import ProviderClient
from pipeline.providers.result import Failure, ProviderResult
from pipeline.settings import Settings
from tests.providers.at_loopback import CANARY, CHAT, Call, Demo, ScriptedProvider, until

PROVIDERS = ("openai", "anthropic", "custom")
# Some spellings of an address are no host of a URL to begin with.
REFUSED = ("is not called", "has an address that is not valid")


def text_of(result: ProviderResult) -> Any:
    assert result.body is not None, result
    return result.body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_comes_back_in_openais_shape_with_its_tokens_and_model(call: Call, provider: str) -> None:
    result = await call("echo", provider=provider)
    assert (result.status_code, result.failure, result.error) == (200, None, None)
    assert text_of(result) == "How deep is the lock?"
    assert result.served_model_name == "echo"
    assert result.body is not None
    assert result.body["object"] == "chat.completion"
    assert result.body["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    assert (result.input_tokens, result.output_tokens) == (5, 5)


async def test_completions_and_embeddings_go_to_their_own_paths(call: Call) -> None:
    completion = await call("echo", task="llm/v1/completions", body={"prompt": "over the hills"})
    assert completion.body is not None
    assert completion.body["choices"][0]["text"] == "over the hills"
    embedding = await call("demo", task="llm/v1/embeddings", body={"input": ["one", "two"]})
    assert embedding.body is not None
    assert len(embedding.body["data"]) == 2
    assert (embedding.input_tokens, embedding.output_tokens) == (1, 0)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("model", "failure", "status"),
    [
        *((f"fail-{s}", Failure.CLIENT, s) for s in (400, 404, 413, 422)),
        ("fail-429", Failure.RATE_LIMITED, 429),
        *((f"fail-{s}", Failure.PROVIDER, s) for s in (401, 402, 403, 408, 500, 501, 502, 503, 529)),
        ("html-502", Failure.PROVIDER, 502),
        ("redirect", Failure.PROVIDER, 302),
        *(
            (m, Failure.PROVIDER, 0)
            for m in ("garbage", "half", "html-200", "wrong-types", "close", "deep", "surrogate", "huge-2", "bomb-64")
        ),
    ],
)
async def test_every_failure_is_put_on_the_right_account(call: Call, provider: str, model: str, failure: Failure, status: int) -> None:
    result = await call(model, provider=provider)
    assert (result.failure, result.status_code, result.body) == (failure, status, None)
    assert result.error
    assert "\n" not in result.error
    assert len(result.error) <= 500
    # The next call over the same connections works.
    assert (await call("demo", provider=provider)).failure is None


async def test_a_providers_own_words_about_the_clients_mistake_are_passed_on(call: Call) -> None:
    assert (await call("fail-400")).error == "the demo provider was told to answer 400"


async def test_a_rate_limited_answer_says_how_long_to_wait(call: Call) -> None:
    assert (await call("fail-429")).retry_after_s == 1
    assert (await call("fail-500")).retry_after_s is None


@pytest.mark.parametrize("model", ["no-usage", "bad-usage"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_missing_or_absurd_counts_are_estimated_from_the_text(call: Call, model: str, provider: str) -> None:
    result = await call(f"{model}+say-twelve_chars", provider=provider)
    assert (result.input_tokens, result.output_tokens) == ((21 + 1) // 4, (12 + 1) // 4)
    assert result.body is not None
    assert result.body["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


async def test_a_nul_in_the_text_can_be_written_again(call: Call) -> None:
    result = await call("nul")
    assert text_of(result).startswith("\x00")
    assert orjson.loads(orjson.dumps(result.body)) == result.body


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("model", ["drip-0.1", "hang", "slow-30"])
async def test_one_deadline_holds_over_the_whole_call(call: Call, model: str, provider: str, demo: Demo) -> None:
    begin = time.monotonic()
    result = await call(model, provider=provider, timeout_s=1.0, request_id=f"deadline-{provider}-{model}")
    assert 0.9 <= time.monotonic() - begin <= 2.0
    assert (result.failure, result.status_code) == (Failure.PROVIDER, 0)
    assert "within 1 s" in (result.error or "")
    await until(lambda: demo.calls(request_id=f"deadline-{provider}-{model}")[0]["state"] == "cut off")


async def test_a_cancelled_call_raises_and_closes_its_connection(call: Call, demo: Demo) -> None:
    task = asyncio.ensure_future(call("hang", request_id="cancelled-1"))
    await until(lambda: bool(demo.calls(request_id="cancelled-1")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: demo.calls(request_id="cancelled-1")[0]["state"] == "cut off")


async def test_a_long_call_delays_no_short_one(call: Call) -> None:
    slow = [asyncio.ensure_future(call("slow-2", request_id=f"slow-{i}")) for i in range(300)]
    begin = time.monotonic()
    assert (await call("demo")).failure is None
    assert time.monotonic() - begin < 1.5
    assert not any(s.done() for s in slow)
    assert all(r.failure is None for r in await asyncio.gather(*slow))


async def test_answers_reach_the_calls_they_belong_to(call: Call) -> None:
    async def ask(number: int) -> bool:
        text = f"question {number}"
        return bool(text_of(await call("echo", body={"messages": [{"role": "user", "content": text}]})) == text)

    assert all(await asyncio.gather(*(ask(n) for n in range(500))))


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("http://no-such-host.invalid/v1", "can't be resolved"),
        ("https://{host}/v1", "TLS"),
        ("http://127.0.0.1:{closed}/v1", "refused the connection"),
    ],
)
async def test_an_address_that_leads_nowhere_is_the_providers_failure(call: Call, demo: Demo, base: str, words: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    result = await call("demo", base=base.format(host=demo.url.removeprefix("http://"), closed=closed))
    assert (result.failure, result.status_code) == (Failure.PROVIDER, 0)
    assert words in (result.error or "")


async def test_the_body_goes_on_as_it_came_but_for_model_and_stream(entity: Callable[..., ServedEntity], client: ProviderClient) -> None:
    async with ScriptedProvider(b'{"choices":[{"message":{"content":"ok"}}]}') as provider:
        body = {
            "messages": [{"role": "user", "content": "x"}],
            "model": "endpoint",
            "stream": True,
            "future_field": {"a": [1, None]},
            "seed": 7,
        }
        before = orjson.dumps(body)
        await client.call(entity("gpt-4o", base=provider.url), body, task=CHAT, timeout_s=5, request_id="a b/ü")
    assert orjson.dumps(body) == before
    sent = orjson.loads(provider.body)
    assert sent == {"messages": body["messages"], "model": "gpt-4o", "future_field": {"a": [1, None]}, "seed": 7}
    assert provider.headers["x-client-request-id"] == "a%20b/%C3%BC"
    assert provider.headers["authorization"] == f"Bearer {CANARY}"
    assert "cookie" not in provider.headers


async def test_a_providers_cookie_is_not_sent_back(entity: Callable[..., ServedEntity], client: ProviderClient) -> None:
    async with ScriptedProvider(b'{"choices":[{"message":{"content":"ok"}}]}', "Set-Cookie: who=alice; Path=/\r\n") as provider:
        for number in range(2):
            await client.call(entity("m", base=provider.url), {"messages": []}, task=CHAT, timeout_s=5, request_id=str(number))
    assert "cookie" not in provider.headers


async def test_a_compressed_answer_is_read(entity: Callable[..., ServedEntity], client: ProviderClient) -> None:
    data = gzip.compress(b'{"choices":[{"message":{"content":"packed"}}]}')
    async with ScriptedProvider(data, "Content-Encoding: gzip\r\n") as provider:
        result = await client.call(entity("m", base=provider.url), {"messages": []}, task=CHAT, timeout_s=5, request_id="1")
    assert text_of(result) == "packed"


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "500 Internal Server Error"])
@pytest.mark.parametrize(
    "form", ['{{"error":{{"message":"wrong key {key}"}}}}', '{{"choices":[{{"message":{{"content":"{key}"}}}}]}}', "no JSON: {key}"]
)
async def test_the_key_never_comes_out_even_where_the_provider_repeats_it(
    entity: Callable[..., ServedEntity], client: ProviderClient, caplog: pytest.LogCaptureFixture, status: str, form: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with ScriptedProvider(form.format(key=CANARY).encode(), status=status) as provider:
            result = await client.call(entity("m", base=provider.url), {"messages": []}, task=CHAT, timeout_s=5, request_id="1")
    assert CANARY in provider.headers["authorization"]
    assert CANARY not in repr(result)
    assert CANARY not in caplog.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_missing_secret_fails_the_served_entity_and_names_both_places(call: Call, provider: str) -> None:
    result = await call("demo", provider=provider, key="{{secrets/prod-a/open.key}}")
    assert (result.failure, result.status_code) == (Failure.PROVIDER, 0)
    for words in ("'primary'", "{{secrets/prod-a/open.key}}", "SLUICE_SECRET_PROD_A_OPEN_KEY", "/prod-a/open.key"):
        assert words in (result.error or "")


async def test_a_body_without_counterpart_is_the_clients_fault_and_makes_no_call(call: Call, demo: Demo) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "n": 2}
    result = await call("demo", provider="anthropic", body=body, request_id="no-counterpart")
    assert (result.failure, result.status_code) == (Failure.CLIENT, 0)
    assert (result.error or "").startswith("n must be 1")
    assert demo.calls(request_id="no-counterpart") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0"])
async def test_loopback_is_not_called_where_private_providers_are_not_allowed(
    entity: Callable[..., ServedEntity], demo: Demo, settings: Settings, host: str
) -> None:
    client = ProviderClient(settings.model_copy(update={"allow_private_providers": False}))
    await client.start()
    base = f"http://{host}:{demo.url.rpartition(':')[2]}/v1"
    result = await client.call(entity("demo", base=base), {"messages": []}, task=CHAT, timeout_s=5, request_id="private-1")
    await client.stop()
    assert result.failure is Failure.PROVIDER
    assert any(words in (result.error or "") for words in REFUSED)
    assert demo.calls(request_id="private-1") == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0xa9fea9fe", "2852039166"]
)
async def test_metadata_addresses_are_never_called(entity: Callable[..., ServedEntity], client: ProviderClient, host: str) -> None:
    result = await client.call(entity("demo", base=f"http://{host}/v1"), {"messages": []}, task=CHAT, timeout_s=5, request_id="1")
    assert result.failure is Failure.PROVIDER
    assert any(words in (result.error or "") for words in REFUSED)
