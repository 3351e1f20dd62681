"""Which logged rows can be sent again, as what, and how two answers are compared."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.replay.comparing import findings, similarity, text_of
from pipeline.replay.preparing import prepared
from pipeline.replay.records import Original

CHAT = "llm/v1/chat"


def a_row(**changes):
    row = {
        "request_id": "r1", "timestamp_ms": 7, "endpoint_name": "one", "model": "gpt-4o", "status_code": 200, "execution_time_ms": 12,
        "input_tokens": 3, "output_tokens": 5, "guardrails": [],
        "request": json.dumps({"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}),
        "response": json.dumps({"choices": [{"message": {"content": "good morning"}}]}),
    }  # fmt: skip
    return row | changes


def a_run(kind, result, direction="input"):
    return {"assessment_type": kind, "direction": direction, "result": result}


def test_a_stream_is_sent_as_a_whole_and_the_endpoint_is_named_by_the_path():
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True, "stream_options": {"include_usage": True}, "model": "one"}
    made = prepared(a_row(request=json.dumps(body)), 4, CHAT)
    assert isinstance(made, Original)
    assert json.loads(made.request) == {"messages": body["messages"]}
    assert (made.place, made.request_id, made.answer, made.masked) == (4, "r1", "good morning", False)


@pytest.mark.parametrize(
    ("request_text", "why"),
    [(None, "without text"), ("{", "unreadable"), ("[1]", "unreadable"), ('{"a": 1, "a": 2}', "unreadable"),
     ('{"prompt": "hello"}', "of another task")],
)  # fmt: skip
def test_a_row_that_can_not_be_sent_says_why(request_text, why):
    assert prepared(a_row(request=request_text), 0, CHAT) == why


def test_an_error_is_no_answer_to_compare():
    made = prepared(a_row(status_code=400, response='{"error_code": "BAD_REQUEST"}', guardrails=[a_run("KEYWORD", "BLOCKED")]), 0, CHAT)
    assert isinstance(made, Original)
    assert (made.answer, made.guardrails) == (None, ["input KEYWORD blocked"])


def test_what_was_masked_before_it_was_logged_is_marked():
    made = prepared(a_row(guardrails=[a_run("PII", "MASKED"), a_run("SAFETY", "PASSED")]), 0, CHAT)
    assert isinstance(made, Original)
    assert (made.masked, made.guardrails) == (True, ["input PII masked"])


@given(
    request=st.none() | st.text(max_size=8) | st.sampled_from(["null", '{"messages": 5}', '{"messages": [], "stream": "x"}', '"\\ud800"']),
    response=st.none() | st.text(max_size=8) | st.sampled_from(["null", '{"choices": 1}', '{"choices": [1, {"message": null}]}']),
    numbers=st.none() | st.integers(0, 9),
    runs=st.none() | st.lists(st.none() | st.just(a_run("PII", None))),
)
def test_no_row_ends_the_choosing(request, response, numbers, runs):
    row = a_row(request=request, response=response, input_tokens=numbers, output_tokens=numbers, guardrails=runs)
    assert isinstance(prepared(row, 0, CHAT), Original | str)


def test_similarity_counts_the_characters_that_stay():
    assert similarity("abcd", "abcd") == 1
    assert similarity("abcd", "abxd") == 0.75
    assert similarity("abcd", "") == 0
    assert similarity(None, "abcd") is None


def test_the_text_of_an_answer_is_all_it_says_and_not_its_log_probabilities():
    call = {"function": {"name": "find", "arguments": '{"q": "x"}'}}
    choice = {"message": {"role": "assistant", "content": "so", "tool_calls": [call]}, "logprobs": {"content": [{"token": "s"}]}}
    assert text_of({"choices": [choice]}) == 'so\nfind\n{"q": "x"}'
    assert text_of({"data": [{"embedding": [0.5]}]}) is None


def test_a_guardrail_that_let_all_pass_is_no_finding():
    runs = [a_run("PII", "MASKED"), a_run("PII", "MASKED"), a_run("TOPIC", "PASSED"), a_run("SAFETY", "UNCHECKED", "output"), None]
    assert findings(runs) == ["input PII masked", "output SAFETY unchecked"]
    assert findings(None) == []
