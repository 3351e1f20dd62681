"""Anthropic's Messages API as a way in: translation, the way there and back, and the official client through it."""

from __future__ import annotations

from typing import Any

import anthropic as official
import httpx
import httpx2
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import messages_api
from pipeline.errors import InvalidParameter
from pipeline.providers import anthropic
from tests.providers.at_loopback import Demo

HELLO = {"role": "user", "content": "hello"}


def to_chat(**fields: Any) -> dict[str, Any]:
    return messages_api.to_chat({"model": "e", "max_tokens": 10, "messages": [HELLO], **fields})


def test_a_whole_request_is_translated() -> None:
    tool = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    chat = to_chat(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Be kind."}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "what is this"}, picture]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, use]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}, {"type": "text", "text": "so?"}]},
        ],
        tools=[tool], tool_choice={"type": "any", "disable_parallel_tool_use": True}, stop_sequences=["END"], temperature=0.5,
        metadata={"user_id": "u1"}, client_request_id="mine", usage_context={"team": "x"}, stream=False,
    )  # fmt: skip
    assert chat == {
        "model": "e", "max_tokens": 10, "temperature": 0.5, "stop": ["END"], "user": "u1", "stream": False, "client_request_id": "mine",
        "usage_context": {"team": "x"}, "tool_choice": "required", "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "Be brief.\n\nBe kind."},
            {"role": "user", "content": [{"type": "text", "text": "what is this"}, part]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "t1", "content": "rain"},
            {"role": "user", "content": "so?"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": None}, "model must be a string"),
        ({"max_tokens": None}, "max_tokens must be a whole number"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "at least one"),
        ({"messages": {}}, "messages must be a list, not an object"),
        ({"messages": [{"role": "system", "content": "x"}]}, "goes into 'system'"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content must be a list, not a number"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type 'document'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"system": 7}, "system must be a list"),
        ({"stream": "yes"}, "stream"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "runs at the provider"),
        ({"tool_choice": "auto"}, "tool_choice must be an object"),
        ({"temperature": True}, "temperature"),
        ({"mcp_servers": []}, "'mcp_servers' is not supported"),
    ],
)
def test_wrong_shapes_are_refused_with_place_and_remedy(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        to_chat(**fields)
    assert words in raised.value.message


TEXT = st.text(min_size=1, max_size=20)
NAME = st.text("abcdefgh_", min_size=1, max_size=8)
OBJECT = st.dictionaries(NAME, st.integers(-(2**63), 2**63 - 1) | TEXT | st.booleans(), max_size=3)
TEXT_BLOCK = st.builds(lambda t: {"type": "text", "text": t}, TEXT)
IMAGE = st.sampled_from(
    [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
     {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]
)  # fmt: skip
TOOL_USE = st.builds(lambda i, n, o: {"type": "tool_use", "id": i, "name": n, "input": o}, NAME, NAME, OBJECT)
TOOL_RESULT = st.builds(lambda i, t: {"type": "tool_result", "tool_use_id": i, "content": t}, NAME, TEXT)
USER = st.builds(
    lambda results, parts: {"role": "user", "content": results + parts},
    st.lists(TOOL_RESULT, max_size=2), st.lists(TEXT_BLOCK | IMAGE, min_size=1, max_size=3),
)  # fmt: skip
ASSISTANT = st.builds(lambda text, calls: {"role": "assistant", "content": [text, *calls]}, TEXT_BLOCK, st.lists(TOOL_USE, max_size=2))
TOOL = st.builds(lambda n, d, o: {"name": n, "description": d, "input_schema": {"type": "object", "properties": o}}, NAME, TEXT, OBJECT)
CHOICE = st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "none"}, {"type": "tool", "name": "f"}])
TURNS = st.lists(st.tuples(USER, ASSISTANT), max_size=3)


OPTIONS = {
    "system": TEXT,
    "temperature": st.floats(0, 1),
    "top_p": st.floats(0, 1),
    "stop_sequences": st.lists(TEXT, min_size=1, max_size=3),
}
FIELDS = st.fixed_dictionaries({"model": NAME, "max_tokens": st.integers(1, 10_000)}, optional=OPTIONS)


@given(TURNS, USER, FIELDS, st.none() | st.tuples(st.lists(TOOL, min_size=1, max_size=2), CHOICE))
def test_a_message_request_survives_the_way_through_the_chat_form(turns: Any, last: Any, fields: dict[str, Any], tools: Any) -> None:
    request = {**fields, "messages": [m for turn in turns for m in turn] + [last]}
    if tools:
        request |= {"tools": tools[0], "tool_choice": tools[1]}
    assert anthropic.to_messages(messages_api.to_chat(request), fields["model"]) == request


@given(
    st.lists(TEXT_BLOCK, max_size=1), st.lists(TOOL_USE, max_size=3), st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal"]),
    st.tuples(*[st.integers(0, 10_000)] * 3),
)  # fmt: skip
def test_a_message_survives_the_way_through_the_chat_form(texts: Any, calls: Any, reason: str, counts: tuple[int, int, int]) -> None:
    usage = {"input_tokens": counts[0], "cache_creation_input_tokens": 0, "cache_read_input_tokens": counts[1], "output_tokens": counts[2]}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": texts + calls, "stop_reason": reason,
               "stop_sequence": None, "usage": usage}  # fmt: skip
    made = messages_api.from_chat(anthropic.answer(orjson.loads(orjson.dumps(message)), {}, created=1).body, "m")
    assert made == message
    official.types.Message.model_validate(made)


NAMES = st.sampled_from(["message", "content", "tool_calls", "function", "arguments", "finish_reason", "text", "prompt_tokens"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)


@given(st.fixed_dictionaries({}, optional={"id": ANY, "choices": ANY | st.lists(st.fixed_dictionaries({"message": ANY})), "usage": ANY}))
def test_any_answer_becomes_a_message_that_the_official_client_takes(answer: dict[str, Any]) -> None:
    official.types.Message.model_validate(messages_api.from_chat(answer, "m"))


@given(
    st.fixed_dictionaries(
        {}, optional={f: ANY for f in ("model", "messages", "system", "max_tokens", "tools", "tool_choice", "metadata", "stream")}
    )
)
def test_any_request_is_translated_or_refused_by_name(body: dict[str, Any]) -> None:
    try:
        messages_api.to_chat(body)
    except InvalidParameter as exc:
        assert exc.message


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", official.BadRequestError),
        (401, "authentication_error", official.AuthenticationError),
        (403, "permission_error", official.PermissionDeniedError),
        (404, "not_found_error", official.NotFoundError),
        (413, "request_too_large", official.APIStatusError),
        (429, "rate_limit_error", official.RateLimitError),
        (500, "api_error", official.InternalServerError),
        (502, "api_error", official.InternalServerError),
        (503, "overloaded_error", official.InternalServerError),
        (504, "timeout_error", official.InternalServerError),
    ],
)
def test_the_official_client_understands_the_errors(status: int, kind: str, raised: type[official.APIStatusError]) -> None:
    body = messages_api.error_body("SOME_CODE", status, "what is wrong")
    assert body["error"]["type"] == kind
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=body))
    client = official.Anthropic(api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport))
    with pytest.raises(raised, match="what is wrong"):
        client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("model", ["echo", "tool", "length"])
def test_the_official_client_gets_its_answer_through_a_chat_provider(demo: Demo, model: str) -> None:
    """The gateway's two translations between the official client and a provider that speaks OpenAI's form only."""

    def gateway(request: httpx2.Request) -> httpx2.Response:
        chat = messages_api.to_chat(orjson.loads(request.content))
        answer = httpx.post(f"{demo.url}/v1/chat/completions", json=chat, trust_env=False).json()
        return httpx2.Response(200, json=messages_api.from_chat(answer, chat["model"]))

    client = official.Anthropic(api_key="k", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(gateway)))
    tool = {"name": "lookup", "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}}}
    message = client.messages.create(model=model, max_tokens=50, messages=[{"role": "user", "content": "What flows?"}], tools=[tool])  # type: ignore[list-item]
    block = message.content[0]
    if model == "tool":
        assert (block.type, message.stop_reason) == ("tool_use", "tool_use")
        assert (block.name, block.input) == ("lookup", {"text": "What flows?"})
    else:
        assert block.type == "text"
        assert model != "echo" or block.text == "What flows?"
        assert message.stop_reason == {"echo": "end_turn", "length": "max_tokens"}[model]
    assert message.usage.input_tokens == 3
