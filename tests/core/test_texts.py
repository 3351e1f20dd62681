"""Every text of a body is looked at and can be replaced, and nothing else of the body changes."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.pii import MASK, detect, mask
from pipeline.core.texts import BodyTexts, texts_of_answer, texts_of_request

SECRET = "alice@example.com"


def call(arguments: str) -> dict:
    return {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}


def tool(**function: object) -> dict:
    return {"messages": [], "tools": [{"type": "function", "function": {"name": "f"} | function}]}


PLACES = {
    "a message": {"messages": [{"role": "user", "content": SECRET}]},
    "the system prompt": {"messages": [{"role": "system", "content": f"You serve {SECRET}"}, {"role": "user", "content": "hi"}]},
    "a name": {"messages": [{"role": "user", "name": SECRET, "content": "hi"}]},
    "the second part": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": SECRET}]}]},
    "a tool call's arguments": {"messages": [call(json.dumps({"a": [SECRET]}))]},
    "escaped in arguments": {"messages": [call('{"a": "alice\\u0040example.com"}')]},
    "a key of the arguments": {"messages": [call(json.dumps({SECRET: 1}))]},
    "arguments that are no JSON": {"messages": [call('{"a": "' + SECRET)]},
    "arguments with a name twice": {"messages": [call('{"a": "' + SECRET + '", "a": 1}')]},
    "under a name that steers elsewhere": {"messages": [call(json.dumps({"type": SECRET}))]},
    "a tool's result": {"messages": [{"role": "tool", "tool_call_id": "c", "content": json.dumps({"mail": SECRET})}]},
    "a tool call's id": {"messages": [{"role": "tool", "tool_call_id": SECRET, "content": "done"}]},
    "a tool's description": tool(description=SECRET),
    "a parameter's name": tool(parameters={"properties": {SECRET: {"type": "string"}}}),
    "a parameter called type": tool(parameters={"properties": {"type": {"description": SECRET}}}),
    "reasoning": {"messages": [{"role": "assistant", "content": "hi", "reasoning_content": SECRET}]},
    "a link": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"https://example.com/?u={SECRET}"}}]}]},
    "a prompt": {"prompt": SECRET},
    "one of several prompts": {"prompt": ["hi", SECRET]},
    "an embedding's input": {"input": ["hi", SECRET]},
    "the user field": {"messages": [], "user": SECRET},
    "metadata": {"messages": [], "metadata": {SECRET: "x"}},
    "a stop sequence": {"messages": [], "stop": [SECRET]},
    "a schema for the answer": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "description": SECRET}}},
    "a field of answers, in a request": {"messages": [{"role": "user", "content": "hi", "logprobs": {"a": SECRET}, "usage": SECRET}]},
    "a field nobody knows": {"messages": [], "x_new": {"y": [{"z": SECRET}]}},
}  # fmt: skip
ANSWERS = {
    "a choice": {"choices": [{"message": {"role": "assistant", "content": SECRET}}]},
    "the second choice": {"choices": [{"message": {"content": "hi"}}, {"message": {"content": SECRET}}]},
    "a refusal": {"choices": [{"message": {"refusal": f"not to {SECRET}"}}]},
    "reasoning": {"choices": [{"message": {"content": "hi", "reasoning_content": SECRET}}]},
    "arguments": {"choices": [{"message": call(json.dumps({"to": SECRET}))}]},
    "a completion": {"choices": [{"text": SECRET}]},
    "a transcript": {"choices": [{"message": {"audio": {"id": "a", "transcript": SECRET}}}]},
    "a citation": {"choices": [{"message": {"content": "hi"}}], "citations": [f"https://example.com/{SECRET}"]},
}  # fmt: skip


def masked(texts: BodyTexts) -> dict:
    return texts.replaced(mask(texts.texts, detect(texts.texts, sequences=texts.sequences)))


@pytest.mark.parametrize("place", PLACES)
def test_personal_data_is_masked_wherever_it_stands_in_a_request(place):
    body = copy.deepcopy(PLACES[place])
    cleaned = masked(texts_of_request(body))
    assert body == PLACES[place], "the body was changed in place"
    assert "alice" not in json.dumps(cleaned)
    assert MASK in json.dumps(cleaned)


@pytest.mark.parametrize("place", ANSWERS)
def test_personal_data_is_masked_wherever_it_stands_in_an_answer(place):
    body = {"id": "x", "object": "chat.completion", "usage": {"total_tokens": 12345678}} | ANSWERS[place]
    cleaned = masked(texts_of_answer(body))
    assert "alice" not in json.dumps(cleaned)
    assert MASK in json.dumps(cleaned)
    assert cleaned["usage"] == body["usage"]


def test_arguments_stay_json_though_a_number_in_them_is_masked():
    arguments = json.dumps(
        {"card": 4000056655665556, "card_number": "4000056655665556", "account_number": 123456789012, "n": 3, "ok": True}
    )
    body = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "pay", "arguments": arguments}}]}]}
    cleaned = masked(texts_of_request(body))["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(cleaned) == {"card": MASK, "card_number": MASK, "account_number": MASK, "n": 3, "ok": True}


def test_two_names_that_are_both_masked_keep_both_values():
    body = {"messages": [{"role": "tool", "content": json.dumps({"a@example.com": 1, "b@example.com": 2})}]}
    cleaned = json.loads(masked(texts_of_request(body))["messages"][0]["content"])
    assert cleaned == {MASK: 1, f"{MASK} 2": 2}


def test_log_probabilities_do_not_outlive_the_text_they_spell():
    spelled = {"content": [{"token": "alice", "logprob": -1.0, "top_logprobs": []}]}
    choices = [{"message": {"content": SECRET}, "logprobs": spelled}, {"message": {"content": "hi"}, "logprobs": spelled}]
    cleaned = masked(texts_of_answer({"choices": choices}))["choices"]
    assert cleaned[0] == {"message": {"content": MASK}, "logprobs": None}
    assert cleaned[1] == choices[1]


def test_a_value_split_over_parts_messages_or_one_side_s_turns_is_masked():
    parts = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "it is alice.b@exa"}, {"type": "text", "text": "mple.com"}]}]
    }
    turns = {"messages": [
        {"role": "user", "name": "bob", "content": "first half: 4000 0566"}, {"role": "assistant", "content": "and the rest?"},
        {"role": "user", "name": "bob", "content": "5566 5556"},
    ]}  # fmt: skip
    assert masked(texts_of_request(parts))["messages"][0]["content"] == [
        {"type": "text", "text": f"it is {MASK}"},
        {"type": "text", "text": MASK},
    ]
    assert [m["content"] for m in masked(texts_of_request(turns))["messages"]] == [f"first half: {MASK}", "and the rest?", MASK]


def test_choices_are_not_read_as_one_text():
    body = {"choices": [{"message": {"content": "4000 0566"}}, {"message": {"content": "5566 5556"}}]}
    assert masked(texts_of_answer(body)) is body


def test_pictures_and_what_steers_the_protocol_are_no_texts():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUFB" * 1000, "detail": "high"}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "hi"}]}],
        "temperature": 1,
        "stream": False,
    }
    assert texts_of_request(body).texts == ("hi",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "prompt", "input", "tools", "x"]), json_values), st.data())
def test_only_the_replaced_texts_change(body, data):
    found = texts_of_request(body)
    assert found.replaced(found.texts) is body
    if found.texts:
        place = data.draw(st.integers(0, len(found.texts) - 1))
        new = [text if n != place else "changed ¶" for n, text in enumerate(found.texts)]
        changed = found.replaced(new)
        assert sorted(texts_of_request(changed).texts) == sorted(new)
        assert texts_of_request(body).texts == found.texts
