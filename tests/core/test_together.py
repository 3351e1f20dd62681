"""Chunks of a stream put together: nothing is lost, wherever they were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.together import Together, can_be_joined, says_something

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "demo"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def chunk(delta, index=0, finish=None, **more):
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}


def together(chunks):
    made = Together()
    for one in chunks:
        made.add(one)
    return made


def test_a_chat_becomes_the_completion_that_it_would_have_been():
    chunks = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"}), chunk({}, finish="stop")]
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "logprobs": None, "finish_reason": "stop"}
    assert together(chunks).body(USAGE) == {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def test_tool_calls_are_put_together_by_their_numbers():
    def call(index, arguments, **first):
        name = first.pop("name", None)
        function = {"arguments": arguments} | ({"name": name} if name else {})
        return {"index": index, **first, "function": function}

    chunks = [
        chunk({"role": "assistant", "content": None, "tool_calls": [call(0, "", id="call_a", type="function", name="find")]}),
        chunk({"tool_calls": [call(0, '{"a":')]}),
        chunk({"tool_calls": [call(0, "1}"), call(1, "{}", id="call_b", type="function", name="send")]}),
        chunk({}, finish="tool_calls"),
    ]
    message = together(chunks).body(USAGE)["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "send", "arguments": "{}"}},
    ]


def test_a_completion_keeps_its_text_and_its_log_probabilities():
    head = {**HEAD, "object": "text_completion"}
    chunks = [
        {**head, "choices": [{"index": 0, "text": t, "logprobs": {"tokens": [t]}, "finish_reason": f}]}
        for t, f in (("a", None), ("b", "length"))
    ]
    [choice] = together(chunks).body(USAGE)["choices"]
    assert choice == {"index": 0, "text": "ab", "logprobs": {"tokens": ["a", "b"]}, "finish_reason": "length"}


def test_several_choices_are_kept_apart():
    chunks = [chunk({"content": "a"}, 1), chunk({"content": "b"}, 0), chunk({"content": "c"}, 1)]
    assert [c["message"]["content"] for c in together(chunks).body(USAGE)["choices"]] == ["b", "ac"]


def test_of_a_field_that_nobody_knows_nothing_is_joined():
    assert can_be_joined(chunk({"content": "a"}))
    assert not can_be_joined(chunk({"content": "a", "annotations": []}))
    assert not can_be_joined(chunk({"content": "a"}, logprobs={"content": []}))
    assert not can_be_joined({**chunk({"content": "a"}), "service_tier": "x"})


@pytest.mark.parametrize(
    ("said", "something"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({}, False),
        ({"content": "a"}, True),
        ({"refusal": "no"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
    ],
)
def test_what_says_something(said, something):
    assert says_something(chunk(said)) is something
    assert says_something(chunk(said, finish="stop"))


@given(st.text(), st.lists(st.integers(1, 5), min_size=1), st.integers(1, 8))
def test_joined_in_any_groups_the_answer_is_the_same(text, sizes, group):
    pieces, at = [], 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(chunk({"content": text[at : at + size]}))
        at += size
    chunks = [chunk({"role": "assistant", "content": ""}), *pieces, chunk({}, finish="stop")]
    joined = [together(chunks[at : at + group]).chunk() for at in range(0, len(chunks), group)]
    assert together(joined).body(USAGE) == together(chunks).body(USAGE)
    assert together(chunks).body(USAGE)["choices"][0]["message"]["content"] == text
