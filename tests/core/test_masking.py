"""Masking replaces what was found by [REDACTED], once, and leaves everything else as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.pii import MASK, PiiSpan, detect, mask

VALUES = ["alice@example.com", "4000 0566 5566 5556", "+33 1 42 68 53 00", "512-44-8321", "GB29 NWBK 6016 1331 9268 19", "198.51.100.23"]


def test_found_parts_are_replaced_and_the_rest_stands():
    texts = ["Mail alice@example.com or bob@example.com!", "nothing here"]
    assert mask(texts, detect(texts)) == [f"Mail {MASK} or {MASK}!", "nothing here"]
    assert texts[0] == "Mail alice@example.com or bob@example.com!"


def test_overlapping_and_touching_spans_share_one_mask():
    spans = [PiiSpan(0, 2, 6, "PERSON", 1.0), PiiSpan(0, 4, 8, "LOCATION", 1.0), PiiSpan(0, 8, 9, "EMAIL_ADDRESS", 1.0)]
    assert mask(["abcdefghijkl"], spans) == [f"ab{MASK}jkl"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6), st.text(min_size=30, max_size=30))
def test_every_character_is_either_masked_or_kept(parts, text):
    spans = [PiiSpan(0, min(p), max(p), "X", 1.0) for p in parts if p[0] != p[1]]
    hidden = {i for s in spans for i in range(s.start, s.end)}
    (masked,) = mask([text], spans)
    assert masked.replace(MASK, "") == "".join(c for i, c in enumerate(text) if i not in hidden) or MASK in text


@given(st.lists(st.one_of(st.sampled_from(VALUES), st.text(alphabet="ab 1.-@,:", max_size=12)), max_size=8))
def test_masking_again_changes_nothing(pieces):
    texts = [" ".join(pieces)]
    once = mask(texts, detect(texts))
    assert mask(once, detect(once)) == once


@pytest.mark.parametrize("value", VALUES)
def test_a_value_split_at_any_place_over_two_texts_is_masked_in_both(value):
    for cut in range(1, len(value)):
        texts = ["Here it is: " + value[:cut], value[cut:] + " as promised"]
        masked = mask(texts, detect(texts))
        assert masked != texts, texts
        if "@" not in value[cut:]:
            assert [t.strip() for t in masked] == [f"Here it is: {MASK}", f"{MASK} as promised"], texts


@pytest.mark.parametrize("value", VALUES)
def test_a_value_split_over_three_texts_is_found(value):
    for first in range(1, len(value) - 1):
        for second in range(first + 1, len(value)):
            texts = ["Well, " + value[:first], value[first:second], value[second:]]
            assert detect(texts), texts


def test_a_number_is_found_though_its_label_stands_in_the_text_before():
    texts = ["What is your account number?", "00123456789"]
    assert mask(texts, detect(texts)) == ["What is your account number?", MASK]


def test_texts_that_only_follow_each_other_are_not_taken_for_one():
    texts = ["You are helpful", "alice@example.com is my address", "Thanks for 2024", "11 apples and 12 pears"]
    assert mask(texts, detect(texts)) == [texts[0], f"{MASK} is my address", *texts[2:]]


def test_texts_that_are_read_after_each_other_need_not_stand_beside_each_other():
    texts = ["4000 0566", "go on", "5566 5556"]
    assert detect(texts) == []
    assert mask(texts, detect(texts, sequences=[[0, 1, 2], [0, 2]])) == [MASK, "go on", MASK]
