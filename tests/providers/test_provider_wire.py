"""A provider's answer is untrusted: whatever bytes come, the reading ends in an answer that can be written again, or in Garbage."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.providers import anthropic, openai, wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
BODY = {"messages": [{"role": "user", "content": "hello"}]}


def spoiled(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have the right names and anything under them."""
    values = JSON | st.lists(
        st.fixed_dictionaries({}, optional={n: JSON for n in ("message", "text", "type", "id", "name", "input", "embedding")})
    )
    return st.fixed_dictionaries({}, optional={name: values for name in names})


@given(
    spoiled(["id", "model", "choices", "usage", "data", "created"]),
    st.sampled_from(["llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"]),
)
def test_openais_answers_of_any_shape_are_good_or_garbage(value: dict[str, Any], task: str) -> None:
    try:
        answer = openai.answer(value, BODY, task)
    except wire.Garbage:
        return
    assert answer.input_tokens >= 0 and answer.output_tokens >= 0
    assert answer.body["usage"]["prompt_tokens"] == answer.input_tokens


@given(spoiled(["id", "model", "content", "usage", "stop_reason"]))
def test_anthropics_answers_of_any_shape_are_good_or_garbage(value: dict[str, Any]) -> None:
    try:
        answer = anthropic.answer(value, BODY, created=1)
    except wire.Garbage:
        return
    # What the translation makes has the shape that is asked of OpenAI's own answers.
    openai.answer(answer.body, BODY, "llm/v1/chat")
    assert answer.input_tokens >= 0 and answer.output_tokens >= 0


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_that_can_be_written_again_or_garbage(data: bytes) -> None:
    try:
        value = wire.parse(data)
    except wire.Garbage:
        return
    orjson.dumps(value)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"NaN", b'{"a":NaN}', b'{"a":"\\ud800"}', b"\xff", b'{"a":1', b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"]
)
def test_what_could_not_be_written_again_is_garbage(data: bytes) -> None:
    with pytest.raises(wire.Garbage):
        wire.parse(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"error":{"message":"too long"}}', "too long"),
        (b'{"type":"error","error":{"type":"x","message":"too long"}}', "too long"),
        (b'{"error":"too long"}', "too long"),
        (b'{"message":"too long"}', "too long"),
        (b'{"detail":"too long"}', "too long"),
        (b'{"detail":[{"loc":["body"]}]}', '[{"loc":["body"]}]'),
        (b"too\nlong\x00", "too long"),
        (b"<html>secret page</html>", ""),
        (b'{"error":{"message":7}}', ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_the_providers_own_words_are_found(data: bytes, words: str) -> None:
    assert wire.error_message(data) == words


@given(st.text())
def test_words_of_others_become_one_line_that_can_be_written(text: str) -> None:
    line = wire.one_line(text)
    assert len(line) <= wire.MAX_ERROR_CHARACTERS
    assert not any(c in line for c in "\n\r\x00\u2028")
    line.encode()


@given(JSON, JSON)
def test_only_plausible_counts_are_believed(usage: Any, value: Any) -> None:
    for given_usage in (usage, {"prompt_tokens": value}):
        count = wire.token_count(given_usage, "prompt_tokens")
        assert count is None or (type(count) is int and 0 <= count <= wire.MAX_TOKENS)
