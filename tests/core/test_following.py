"""What a streaming client is told of the records that come: one run, each piece once, its end, and what a crash leaves missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.following import Following
from pipeline.core.together import Together

TASK = "llm/v1/chat"


def piece(sequence: int, text: str, run_id: str = "a", **choice: Any) -> dict[str, Any]:
    chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **choice}]}
    return {"run_id": run_id, "sequence": sequence, "chunk": chunk} | ({"head": {"attempts": 2}} if sequence == 0 else {})


def end(sequence: int, run_id: str = "a", status_code: int = 200, **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "sequence": sequence, "final": True, "status_code": status_code, "usage": {"total_tokens": 3}, **more}


def whole(text: str, run_id: str = "a") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"run_id": run_id, "status_code": 200, "attempts": 1, "body": {"choices": [choice], "usage": {"total_tokens": 5}}}


def told(following: Following, *records: dict[str, Any]) -> str:
    chunks = [chunk for record in records for chunk in following.take(record)]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_pieces_then_the_end() -> None:
    following = Following(TASK)
    assert told(following, piece(0, "he"), piece(1, "llo"), end(2)) == "hello"
    assert (following.ended, following.error, following.usage) == (True, None, {"total_tokens": 3})
    assert following.head == {"attempts": 2}


def test_doubles_and_what_comes_after_the_end_are_passed_by() -> None:
    following = Following(TASK)
    assert told(following, piece(0, "he"), piece(0, "he"), piece(1, "llo"), piece(0, "he"), end(2), piece(3, "x"), end(4)) == "hello"
    assert following.error is None


def test_pieces_of_a_run_whose_beginning_another_had_are_passed_by_and_the_whole_answer_becomes_the_stream() -> None:
    following = Following(TASK)
    assert told(following, piece(3, "lo"), end(4)) == ""
    assert not following.ended
    assert told(following, whole("hello")) == "hello"
    assert (following.ended, following.error, following.usage) == (True, None, {"total_tokens": 5})
    assert following.head is not None and following.head["attempts"] == 1


def test_a_missing_piece_ends_it_with_an_error_rather_than_a_hole() -> None:
    following = Following(TASK)
    assert told(following, piece(0, "he"), piece(2, "o")) == "he"
    assert following.ended and following.error is not None and following.error.status_code == 503


def test_another_run_after_text_has_gone_out_is_an_error() -> None:
    following = Following(TASK)
    assert told(following, piece(0, "he"), piece(4, "y", "b"), end(5, "b")) == "he"
    assert not following.ended
    assert told(following, piece(0, "hi", "b")) == ""
    assert following.error is not None and following.error.error_code == "TEMPORARILY_UNAVAILABLE"
    following = Following(TASK)
    assert told(following, piece(0, "he"), whole("hello", "b")) == "he"
    assert following.error is not None and following.error.error_code == "TEMPORARILY_UNAVAILABLE"


def test_an_error_ends_it_as_it_is_told() -> None:
    for records, begun in (([piece(0, "he")], True), ([], False)):
        following = Following(TASK)
        told(following, *records)
        last = {"error": {"error_code": "BAD_GATEWAY", "message": "broke off"}, "status_code": 502}
        following.take(end(1, **last) if begun else {"run_id": "a", "status_code": 502, "body": last["error"], "retry_after_s": 4})
        assert following.ended and following.error is not None
        assert (following.error.status_code, following.error.error_code, following.error.message) == (502, "BAD_GATEWAY", "broke off")
        assert following.begun is begun


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6), st.integers(0, 6), st.booleans())
def test_what_a_crash_left_missing_is_told_from_the_whole_answer(texts: list[str], gone: int, with_end: bool) -> None:
    pieces = [piece(n, text) for n, text in enumerate(texts)]
    if with_end:
        pieces[-1]["chunk"]["choices"][0]["finish_reason"] = "stop"
    following, together = Following(TASK), Together()
    for record in (*pieces[:gone], whole("".join(texts))):
        for chunk in following.take(record):
            together.add(chunk)
    (choice,) = together.body({})["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("".join(texts), "stop")
    assert following.ended and following.error is None


@pytest.mark.parametrize("gone", range(5))
def test_tool_calls_that_a_crash_cut_are_told_to_their_end(gone: int) -> None:
    deltas = [
        {"content": "I look."},
        {"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "find", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "go", "arguments": "{}"}}]},
    ]
    records = [piece(n, "", delta=delta) for n, delta in enumerate(deltas)]
    made = Together()
    for record in records:
        made.add(record["chunk"])
    body = made.body({})
    body["choices"][0]["finish_reason"] = "tool_calls"
    following, together = Following(TASK), Together()
    for record in (*records[:gone], {"run_id": "a", "status_code": 200, "body": body}):
        for chunk in following.take(record):
            together.add(chunk)
    assert together.body({})["choices"] == body["choices"]
