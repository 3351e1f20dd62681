"""The demo provider: the official clients talk to it, it does what the model's name says, and its ledger tells what came."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import orjson
import pytest

from pipeline.demo_provider.answers import digest
from pipeline.demo_provider.behaviours import DEFAULT, behaviour_of
from tests import demo as demo_calls
from tests.providers.at_loopback import Demo, until

QUESTION = [{"role": "user", "content": "Where does the water go?"}]


@pytest.fixture
def openai_client(demo: Demo) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(demo: Demo) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=demo.url, api_key="k", max_retries=0) as client:
        yield client


def chat(demo: Demo, model: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{demo.url}/v1/chat/completions", json={"model": model, "messages": QUESTION, **fields}, trust_env=False)


def test_the_same_question_gets_the_same_words_with_its_digest(demo: Demo) -> None:
    first, second = (chat(demo, "demo").content for _ in range(2))
    assert first == second
    assert digest("Where does the water go?") in first.decode()


def test_openais_client_gets_all_four(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="echo", messages=QUESTION)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "Where does the water go?"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert openai_client.completions.create(model="echo", prompt="up").choices[0].text == "up"
    assert len(openai_client.embeddings.create(model="demo", input=["a", "b"]).data[1].embedding) == 8
    assert openai_client.models.list().data[0].id == "demo"


@pytest.mark.parametrize("pieces", [1, 5, 100])
def test_a_chat_streams_in_pieces_of_the_size_asked_for(openai_client: openai.OpenAI, pieces: int) -> None:
    stream = openai_client.chat.completions.create(
        model=f"echo+pieces-{pieces}", messages=QUESTION, stream=True, stream_options={"include_usage": True}  # type: ignore[arg-type]
    )  # fmt: skip
    chunks = list(stream)
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(texts) == "Where does the water go?"
    assert all(len(t) == pieces for t in texts[:-1])
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("model", ["echo+pieces-3", "tool+pieces-3"])
def test_anthropics_client_gets_message_and_stream_alike(anthropic_client: anthropic.Anthropic, model: str) -> None:
    message = anthropic_client.messages.create(model=model, max_tokens=50, messages=QUESTION)  # type: ignore[arg-type]
    with anthropic_client.messages.stream(model=model, max_tokens=50, messages=QUESTION) as stream:  # type: ignore[arg-type]
        streamed = stream.get_final_message()
    assert streamed.content[0].model_dump(include={"text", "name", "input"}) == message.content[0].model_dump(
        include={"text", "name", "input"}
    )
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (message.stop_reason, message.usage.output_tokens)


def test_openais_client_streams_completions(openai_client: openai.OpenAI) -> None:
    stream = openai_client.completions.create(
        model="echo+pieces-4", prompt="up the river", stream=True, stream_options={"include_usage": True}
    )  # fmt: skip
    chunks = list(stream)
    assert [c.choices[0].text for c in chunks if c.choices] == ["up t", "he r", "iver", ""]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


@pytest.mark.parametrize("pieces", [1, 5, 1_000])
def test_openais_client_puts_a_tool_call_together(openai_client: openai.OpenAI, pieces: int) -> None:
    tools: Any = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
    messages: Any = QUESTION
    with openai_client.chat.completions.stream(model=f"tool+pieces-{pieces}", messages=messages, tools=tools) as stream:
        sizes = [len(event.arguments_delta) for event in stream if event.type == "tool_calls.function.arguments.delta"]
        answer = stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls or []
    assert (call.function.name, orjson.loads(call.function.arguments)) == ("find", {"text": "Where does the water go?"})
    assert answer.choices[0].finish_reason == "tool_calls"
    assert max(sizes) == min(pieces, len(call.function.arguments))


@pytest.mark.parametrize("damage", ["cut-2", "error-2", "half"])
def test_a_broken_stream_is_one_for_the_clients_too(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic, damage: str
) -> None:
    model, messages = f"echo+pieces-6+{damage}", list[Any](QUESTION)
    # Their kinds differ from client to client, and with the library below.
    broken = "incomplete|Connection error|after 2 pieces"
    said = ""
    with pytest.raises(Exception, match=broken):
        for chunk in openai_client.chat.completions.create(model=model, messages=messages, stream=True):
            said += chunk.choices[0].delta.content or ""
    assert said == "Where does t"
    said = ""
    stream = anthropic_client.messages.stream(model=model, max_tokens=50, messages=messages)
    with pytest.raises(Exception, match=broken), stream as events:
        for text in events.text_stream:
            said += text
    assert said == "Where does t"


def test_a_stalled_stream_stays_open_and_silent(openai_client: openai.OpenAI, demo: Demo) -> None:
    messages: Any = QUESTION
    said = ""
    with pytest.raises(openai.APITimeoutError):
        for chunk in openai_client.with_options(timeout=0.5).chat.completions.create(
            model="echo+pieces-5+stall-1", messages=messages, stream=True, extra_headers={"x-client-request-id": "stalled-1"}
        ):
            said += chunk.choices[0].delta.content or ""
    assert said == "Where"
    assert [c["status"] for c in demo.calls(request_id="stalled-1")] == [200]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages"])
@pytest.mark.parametrize("model", ["endless", "endless+drip-0.01", "echo+stall-1"])
async def test_a_stream_that_its_caller_leaves_is_cut_off(demo: Demo, path: str, model: str) -> None:
    headers = {"x-client-request-id": f"left-{path}-{model}"}
    body = {"model": model, "messages": QUESTION, "prompt": "a long text", "stream": True}
    with httpx.stream("POST", f"{demo.url}{path}", json=body, headers=headers, trust_env=False) as answer:
        pieces = answer.iter_bytes()
        next(pieces)
        assert [c["state"] for c in demo.calls(request_id=headers["x-client-request-id"])] == ["open"]
    await until(lambda: [c["state"] for c in demo.calls(request_id=headers["x-client-request-id"])] == ["cut off"])


def test_a_stream_read_to_its_end_is_finished_though_the_caller_hangs_up(demo: Demo) -> None:
    body = {"model": "echo+drip-0.05", "messages": QUESTION, "stream": True}
    with httpx.stream("POST", f"{demo.url}{CHAT}", json=body, headers={"x-client-request-id": "read-1"}, trust_env=False) as answer:
        assert any(line == "data: [DONE]" for line in answer.iter_lines())
    assert [c["state"] for c in demo.calls(request_id="read-1")] == ["finished"]


def test_a_stream_may_be_answered_whole(demo: Demo) -> None:
    answer = chat(demo, "echo+whole", stream=True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["choices"][0]["message"]["content"] == "Where does the water go?"


@pytest.mark.parametrize("words", [1, 2, 120])
def test_so_many_words_with_the_questions_digest_first(demo: Demo, words: int) -> None:
    said = chat(demo, f"words-{words}").json()["choices"][0]["message"]["content"].split(" ")
    assert len(said) == words
    assert said[0] == digest("Where does the water go?")


def test_behaviours_combine(demo: Demo) -> None:
    begin = time.monotonic()
    answer = chat(demo, "slow-0.3+say-all_quiet")
    assert 0.3 <= time.monotonic() - begin < 2
    assert answer.json()["choices"][0]["message"]["content"] == "all quiet"


@pytest.mark.parametrize(
    "model", ["gpt-4o", "slow-x", "fail-", "fail-9999", "huge-", "words-", "cut-x", "stall", "", "+", "claude-sonnet-4-5"]
)
def test_other_names_are_just_names(model: str) -> None:
    assert behaviour_of(model) == DEFAULT


def test_the_next_calls_of_a_model_can_be_told_to_fail(demo: Demo) -> None:
    demo_calls.behave(demo.url, "planned-1", "fail-503", times=2)
    assert [chat(demo, "planned-1").status_code for _ in range(3)] == [503, 503, 200]
    wrong = httpx.post(f"{demo.url}/demo/behaviour", json={"model": "m"}, trust_env=False)
    assert wrong.status_code == 400


async def test_the_ledger_tells_what_came_without_prompt_or_key(demo: Demo) -> None:
    headers = {"X-Client-Request-Id": "ledger-1", "Authorization": "Bearer sk-hidden"}
    body = {"model": "echo", "messages": QUESTION}
    httpx.post(f"{demo.url}/v1/chat/completions", json=body, headers=headers, trust_env=False)
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{demo.url}/v1/chat/completions", json={**body, "model": "hang"}, headers=headers, trust_env=False, timeout=0.2)
    await until(lambda: [c["state"] for c in demo.calls(request_id="ledger-1")] == ["finished", "cut off"])
    finished, _ = demo.calls(request_id="ledger-1")
    assert (finished["model"], finished["path"], finished["status"], finished["authorized"]) == ("echo", "/v1/chat/completions", 200, True)
    written = demo.ledger.read_text()
    assert [orjson.loads(line)["state"] for line in written.splitlines() if "ledger-1" in line] == ["finished", "cut off"]
    assert "sk-hidden" not in written
    assert "water" not in written


CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, b"{"), (CHAT, b"[]"), (CHAT, b'{"messages":[]}'), (MESSAGES, b'{"model":"m"}'), ("/v1/embeddings", b'{"model":"m","input":7}')],
)
def test_a_bad_request_is_refused_in_the_providers_form(demo: Demo, path: str, body: bytes) -> None:
    answer = httpx.post(f"{demo.url}{path}", content=body, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert ("type" in answer.json()) == (path == "/v1/messages")


def test_it_fails_where_the_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "pipeline.demo_provider", str(taken.getsockname()[1])]
        assert subprocess.run(command, capture_output=True, timeout=20, check=False).returncode != 0


def test_it_ends_cleanly_with_a_call_under_way() -> None:
    process = subprocess.Popen([sys.executable, "-m", "pipeline.demo_provider"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as out:
        url = out.readline().split()[-1]
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{url}/v1/chat/completions", json={"model": "hang", "messages": QUESTION}, timeout=0.2, trust_env=False)
        process.terminate()
        assert process.wait(10) == 0
