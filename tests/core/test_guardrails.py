"""Keywords are found as whole words in all text, and a guardrail that can't run blocks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.guardrails import check, compile_rules
from pipeline.core.keywords import KeywordMatcher
from pipeline.core.texts import answer_texts, request_texts
from pipeline.endpoints import GuardrailParameters


def a_request(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("keyword", "text", "found"),
    [
        ("secret", "a SECRET plan", True),
        ("secret", "the secretary", False),
        ("top secret", "Top\n  secret!", True),
        ("top secret", "top of the secret", False),
        ("straße", "STRASSE", True),
        ("ﬁle", "file", True),
        ("C++", "I like c++.", True),
        ("C++", "abc++", False),
        ("密码", "我的密码是", True),
        ("secret", "secret_plan", False),
    ],
)
def test_keywords_match_whole_words_whatever_their_case_and_form(keyword, text, found):
    assert bool(KeywordMatcher([keyword]).find(text)) is found


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=20), st.text(max_size=200))
def test_a_keyword_set_finds_something_exactly_where_one_of_its_keywords_does(keywords, text):
    alone = any(KeywordMatcher([keyword]).find(text) for keyword in keywords)
    assert bool(KeywordMatcher(keywords).find(text)) is alone


def test_all_text_of_a_request_is_looked_at():
    body = {
        "messages": [
            {"role": "system", "content": "one"},
            {"role": "user", "name": "two", "content": [{"type": "text", "text": "three"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": {"name": "four", "arguments": '{"a": "five"}'}}]},
            {"role": "tool", "tool_call_id": "x", "content": "six"},
        ],
        "tools": [{"type": "function", "function": {"name": "seven", "description": "eight"}}],
    }
    texts = " ".join(request_texts(body))
    assert all(word in texts for word in ["one", "two", "three", "four", "five", "six", "seven", "eight"])


def test_all_choices_of_an_answer_are_looked_at():
    body = {"choices": [{"message": {"content": "one"}}, {"message": {"content": "two", "reasoning_content": "three"}}]}
    assert list(answer_texts(body)) == ["one", "two", "three"]


def test_a_block_carries_the_contract_s_message_and_an_assessment_without_the_text():
    rules = compile_rules(GuardrailParameters(invalid_keywords=["password"]))
    finding = check(rules, a_request("my password is hunter2"), "input", lambda: 0.0)
    assert finding.error is not None
    assert (finding.error.status_code, finding.error.error_code) == (400, "BAD_REQUEST")
    assert json.loads(finding.error.message)["finishReason"] == "input_guardrail_triggered"
    assert "hunter2" not in finding.assessments[0].assessment_details
    assert json.loads(finding.assessments[0].assessment_details)["keywords"] == {"password": 1}


def test_keywords_do_not_arise_between_two_messages():
    rules = compile_rules(GuardrailParameters(invalid_keywords=["top-secret"]))
    body = {"messages": [{"role": "user", "content": "top-"}, {"role": "user", "content": "secret"}]}
    assert check(rules, body, "input", lambda: 0.0).error is None


@pytest.mark.parametrize(
    "parameters",
    [{"safety": True}, {"pii": {"behavior": "BLOCK"}}, {"pii": {"behavior": "MASK"}}, {"valid_topics": ["cooking"]}],
)
def test_a_guardrail_without_an_engine_fails_closed(parameters):
    rules = compile_rules(GuardrailParameters.model_validate(parameters))
    finding = check(rules, a_request("hello"), "output", lambda: 0.0)
    assert finding.error is not None
    assert finding.error.status_code == 503
    assert finding.assessments[0].assessment_result == "BLOCKED"
    assert "error" in json.loads(finding.assessments[0].assessment_details)


def test_nothing_configured_is_nothing_run():
    assert compile_rules(GuardrailParameters.model_validate({"pii": {"behavior": "NONE"}})) == ()
    assert check((), a_request("password"), "input", lambda: 0.0).runs == ()
