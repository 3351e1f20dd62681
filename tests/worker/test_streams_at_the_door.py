"""Streams through the running product: broker, workers, ingress, tables; the official clients, the demo provider's real wire formats."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.demo import behave, calls
from tests.kafka_client import kafka_client

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

SCHEMA = ("streams", "tests")
ASK = "Tell me of the gate, of the stream and of the mill that turns."


class Streams:
    """Endpoints of one test, and what streams of theirs come to."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self.http = stack.http(stack.token("alice@example.com"))

    def endpoint(self, name: str, *entities: dict[str, Any], **gateway: Any) -> str:
        table = {"catalog_name": SCHEMA[0], "schema_name": SCHEMA[1], "table_name_prefix": name.replace("-", "_"), "enabled": True}
        fallback = {"fallback_config": {"enabled": True}} if len(entities) > 1 else {}
        self.stack.create_endpoint(name, {"inference_table_config": table, **fallback, **gateway}, entities=list(entities))
        return name

    def row(self, name: str) -> dict[str, Any]:
        (row,) = self.stack.wait_rows(f"{'.'.join(SCHEMA)}.{name.replace('-', '_')}_request_response", 1)
        return dict(row)

    def ask(self, name: str, text: str = ASK, path: str | None = None, headers: dict[str, str] | None = None, **more: Any) -> "Events":
        body = {"messages": [{"role": "user", "content": text}], "stream": True, **more}
        with self.http.stream("POST", path or f"/serving-endpoints/{name}/invocations", json=body, headers=headers) as answer:
            return Events(answer, [line[6:] for line in answer.iter_lines() if line.startswith("data: ")])


class Events:
    """What came: the answer's head, chunks, and how it ended."""

    def __init__(self, answer: httpx.Response, data: list[str]) -> None:
        self.answer = answer
        self.done = data[-1:] == ["[DONE]"]
        values = [json.loads(d) for d in data if d != "[DONE]"]
        self.chunks = [v for v in values if "choices" in v]
        self.errors = [v for v in values if "error" in v]

    @property
    def text(self) -> str:
        deltas = [choice.get("delta", choice) for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(d.get("content") or d.get("text") or "" for d in deltas)


@pytest.fixture
def streams(stack) -> Iterator[Streams]:
    made = Streams(stack)
    yield made
    made.http.close()


def said_of(row: dict[str, Any]) -> str:
    return str(json.loads(row["response"])["choices"][0]["message"]["content"])


def test_a_stream_is_the_whole_answer_in_pieces_and_its_row_has_it_put_together(streams):
    name = streams.endpoint("stream-plain", streams.stack.entity("echo+pieces-3+drip-0.02"))
    events = streams.ask(name)
    assert events.answer.headers["content-type"].startswith("text/event-stream")
    assert events.answer.headers["served-model-name"] == "echo+pieces-3+drip-0.02"
    assert events.answer.headers["x-sluice-attempts"] == "1"
    assert (events.text, events.done, events.errors) == (ASK, True, [])
    assert len([c for c in events.chunks if c["choices"][0]["delta"].get("content")]) > 3
    assert events.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in chunk for chunk in events.chunks)
    row = streams.row(name)
    assert (row["status_code"], row["finish"], row["streaming"], said_of(row)) == (200, "ok", True, ASK)
    assert row["request_id"] == events.answer.headers["x-request-id"]
    assert 0 < row["time_to_first_token_ms"] < row["execution_time_ms"]
    assert row["input_tokens"] > 0 and row["output_tokens"] == (len(ASK) + 1) // 4
    assert json.loads(row["response"])["usage"]["completion_tokens"] == row["output_tokens"]


@pytest.mark.parametrize("base", ["/v1", "/serving-endpoints"])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_openais_client_streams_whichever_provider_is_behind(streams, base, provider):
    name = streams.endpoint(f"stream-{base.strip('/')}-{provider}", streams.stack.entity("echo+pieces-5", provider=provider))
    with openai.OpenAI(base_url=streams.stack.host + base, api_key=streams.stack.admin_token, max_retries=0) as client:
        messages: Any = [{"role": "user", "content": ASK}]
        chunks = list(client.chat.completions.create(model=name, messages=messages, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ASK
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == (len(ASK) + 1) // 4
    assert streams.row(name)["output_tokens"] == chunks[-1].usage.completion_tokens


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_anthropics_client_streams_whichever_provider_is_behind(streams, provider):
    name = streams.endpoint(f"stream-messages-{provider}", streams.stack.entity("echo+pieces-5", provider=provider))
    client = anthropic.Anthropic(base_url=streams.stack.host, api_key=streams.stack.admin_token, max_retries=0)
    with client, client.messages.stream(model=name, max_tokens=100, messages=[{"role": "user", "content": ASK}]) as stream:
        assert "".join(stream.text_stream) == ASK
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == streams.row(name)["output_tokens"] == (len(ASK) + 1) // 4


def test_tool_calls_come_in_pieces_too(streams):
    name = streams.endpoint("stream-tools", streams.stack.entity("tool"))
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
    with openai.OpenAI(base_url=streams.stack.host + "/v1", api_key=streams.stack.admin_token, max_retries=0) as client:
        messages: Any = [{"role": "user", "content": ASK}]
        with client.chat.completions.stream(model=name, messages=messages, tools=tools) as stream:
            answer = stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("find", {"text": ASK})
    message = json.loads(streams.row(name)["response"])["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "find", "arguments": call.function.arguments}


def test_completions_stream_and_embeddings_answer(streams):
    stack = streams.stack
    name = streams.endpoint("stream-completions", stack.entity("echo+pieces-4", task="llm/v1/completions"))
    vectors = streams.endpoint("stream-embeddings", stack.entity("demo", task="llm/v1/embeddings"))
    with openai.OpenAI(base_url=stack.host + "/v1", api_key=stack.admin_token, max_retries=0) as client:
        chunks = list(client.completions.create(model=name, prompt=ASK, stream=True))
        assert "".join(c.choices[0].text for c in chunks if c.choices) == ASK
        whole = client.completions.create(model=name, prompt=ASK)
        assert whole.choices[0].text == ASK
        answer = client.embeddings.create(model=vectors, input=[ASK, "another"])
        assert len(answer.data) == 2
        with pytest.raises(openai.BadRequestError, match="stream"):
            client.post("/embeddings", body={"model": vectors, "input": ASK, "stream": True}, cast_to=object)
    rows = stack.wait_rows("streams.tests.stream_completions_request_response", 2)
    assert {json.loads(r["response"])["choices"][0]["text"] for r in rows} == {ASK}
    assert streams.row(vectors)["output_tokens"] == 0


def test_before_the_first_text_another_entity_is_asked(streams):
    stack = streams.stack
    failing = [stack.entity(model, name=f"first-{n}") for n, model in enumerate(("fail-500", "cut-0", "stall-0"))]
    name = streams.endpoint("stream-fallback", *failing, stack.entity("echo+pieces-6", name="last"))
    behave_s = time.monotonic()
    events = streams.ask(name)
    assert (events.text, events.done) == (ASK, True)
    assert events.answer.headers["x-sluice-attempts"] == "4"
    row = streams.row(name)
    assert [a["served_entity_name"] for a in row["attempts"]] == ["first-0", "first-1", "first-2", "last"]
    assert (row["served_entity_name"], row["finish"]) == ("last", "ok")
    assert time.monotonic() - behave_s < 120


def test_all_entities_failing_before_the_first_text_is_an_ordinary_error(streams):
    name = streams.endpoint("stream-none", streams.stack.entity("fail-500", name="a"), streams.stack.entity("fail-503", name="b"))
    with streams.http as client:
        answer = client.post(
            f"/serving-endpoints/{name}/invocations", json={"messages": [{"role": "user", "content": ASK}], "stream": True}
        )
    assert (answer.status_code, answer.json()["error_code"]) == (502, "BAD_GATEWAY")
    assert (streams.row(name)["status_code"], streams.row(name)["streaming"]) == (502, True)


@pytest.mark.parametrize("damage", ["cut-4", "error-4"])
def test_after_the_first_text_a_failure_ends_the_stream_with_an_error(streams, damage):
    stack = streams.stack
    name = streams.endpoint(f"stream-{damage}", stack.entity(f"echo+pieces-4+drip-0.03+{damage}", name="a"), stack.entity("echo", name="b"))
    events = streams.ask(name)
    assert events.answer.status_code == 200
    assert events.text and ASK.startswith(events.text)
    assert not events.done
    (error,) = events.errors
    assert error["error"]["code"] == "BAD_GATEWAY"
    row = streams.row(name)
    assert (row["status_code"], row["finish"], len(row["attempts"])) == (502, "failed", 1)
    assert json.loads(row["response"])["error_code"] == "BAD_GATEWAY"
    assert row["output_tokens"] > 0 and row["time_to_first_token_ms"] is not None


def test_a_client_that_goes_away_ends_the_call_of_the_model(streams):
    model = "words-2000+drip-0.05+gone"
    name = streams.endpoint("stream-gone", streams.stack.entity(model))
    body = {"messages": [{"role": "user", "content": ASK}], "stream": True}
    with streams.http.stream("POST", f"/serving-endpoints/{name}/invocations", json=body) as answer:
        lines = answer.iter_lines()
        while "content" not in next(lines):
            pass
        request_id = answer.headers["x-request-id"]
    deadline_s = time.monotonic() + 10
    while [c["state"] for c in calls(streams.stack.demo_url, request_id=request_id)] != ["cut off"]:
        assert time.monotonic() < deadline_s, calls(streams.stack.demo_url, request_id=request_id)
    row = streams.row(name)
    assert (row["status_code"], row["finish"]) == (499, "abandoned")
    assert row["output_tokens"] > 0


def test_a_guarded_stream_is_masked_and_stopped_on_the_way(streams):
    stack = streams.stack
    output = {"pii": {"behavior": "MASK"}, "invalid_keywords": ["forbidden phrase"], "safety": True}
    name = streams.endpoint("stream-guarded", stack.entity("echo+pieces-1"), guardrails={"output": output})
    events = streams.ask(name, "Write to alice@example.com today. Then rest.")
    assert (events.text, events.done) == ("Write to [REDACTED] today. Then rest.", True)
    row = streams.row(name)
    assert said_of(row) == events.text
    assert sorted((g["assessment_type"], g["result"]) for g in row["guardrails"]) == [
        ("KEYWORD", "PASSED"), ("PII", "MASKED"), ("SAFETY", "PASSED"),
    ]  # fmt: skip
    stopped = streams.endpoint("stream-stopped", stack.entity("echo+pieces-2+drip-0.01"), guardrails={"output": output})
    text = "First a harmless sentence that goes out. Then the forbidden phrase, which does not."
    events = streams.ask(stopped, text)
    assert "First a harmless" in events.text and "forbidden" not in events.text
    (error,) = events.errors
    assert json.loads(error["error"]["message"])["finishReason"] == "output_guardrail_triggered"
    row = streams.row(stopped)
    assert (row["status_code"], row["finish"]) == (400, "blocked")
    assert "forbidden" not in row["response"]


def test_a_repeat_is_answered_from_what_is_kept_as_a_stream(streams):
    name = streams.endpoint("stream-repeat", streams.stack.entity("echo+pieces-7"))
    headers = {"Idempotency-Key": "once-1"}
    first, second = streams.ask(name, headers=headers), streams.ask(name, headers=headers)
    assert (first.text, second.text, second.done) == (ASK, ASK, True)
    request_id = first.answer.headers["x-request-id"]
    assert second.answer.headers["x-request-id"] == request_id
    assert len(calls(streams.stack.demo_url, request_id=request_id)) == 1


async def test_a_direct_consumer_reads_the_pieces(streams):
    name = streams.endpoint("stream-kafka", streams.stack.entity("echo+pieces-3+drip-0.03"))
    request_id = str(uuid.uuid4())
    async with kafka_client(streams.stack.kafka) as client:
        body = {"messages": [{"role": "user", "content": ASK}], "stream": True}
        await client.request(name, request_id=request_id, body=body)
        async with asyncio.timeout(30):
            count = 1
            while not (await client.answer(request_id, count=count)).get("final"):
                count += 1
    *pieces, end = client.answers[request_id]
    assert [p["sequence"] for p in (*pieces, end)] == list(range(len(pieces) + 1))
    assert len(pieces) > 3
    assert "".join(p["chunk"]["choices"][0]["delta"].get("content") or "" for p in pieces) == ASK
    assert (end["status_code"], end["error"]) == (200, None)
    assert end["usage"]["completion_tokens"] == (len(ASK) + 1) // 4


def test_the_entity_that_answers_late_is_not_asked_twice(streams):
    stack = streams.stack
    model = "demo+planned"
    behave(stack.demo_url, model, "echo+slow-1+pieces-9")
    name = streams.endpoint("stream-late", stack.entity(model))
    events = streams.ask(name)
    assert events.text == ASK
    assert len(calls(stack.demo_url, model=model)) == 1
