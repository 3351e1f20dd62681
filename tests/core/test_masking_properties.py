"""Masking of any spans in any texts, against a model that colours characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.pii import MASK, PiiSpan, mask
from pipeline.core.pii.masking import merged

# None of the mask's own letters, so that a mask in the result is one that was put there.
plain = st.text(alphabet="abc ä@1é\n", max_size=30)


@st.composite
def texts_and_spans(draw: st.DrawFn) -> tuple[list[str], list[PiiSpan]]:
    texts = draw(st.lists(plain, min_size=1, max_size=4))
    spans = []
    for _ in range(draw(st.integers(0, 8))):
        number = draw(st.integers(0, len(texts) - 1))
        if texts[number]:
            start = draw(st.integers(0, len(texts[number]) - 1))
            spans.append(PiiSpan(number, start, draw(st.integers(start + 1, len(texts[number]))), "EMAIL_ADDRESS", 1.0))
    return texts, spans


def coloured(text: str, spans: list[PiiSpan]) -> str:
    """`text` masked the slow way: every character is hidden or not, and each run of hidden ones becomes one mask."""
    hidden = [any(s.start <= place < s.end for s in spans) for place in range(len(text))]
    made = ""
    for place, character in enumerate(text):
        if not hidden[place]:
            made += character
        elif place == 0 or not hidden[place - 1]:
            made += MASK
    return made


@given(texts_and_spans())
def test_masking_is_what_colouring_characters_gives(given_):
    texts, spans = given_
    before = list(texts)
    assert mask(texts, spans) == [coloured(text, [s for s in spans if s.text == number]) for number, text in enumerate(texts)]
    assert texts == before


@given(texts_and_spans(), st.randoms(use_true_random=False))
def test_neither_the_order_of_spans_nor_one_given_twice_matters(given_, chance):
    texts, spans = given_
    shuffled = spans + spans[:2]
    chance.shuffle(shuffled)
    assert mask(texts, shuffled) == mask(texts, spans)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=12))
def test_merged_parts_are_in_order_apart_and_cover_the_same(pairs):
    parts = [(start, start + length) for start, length in pairs]
    made = merged(parts)
    assert all(one[1] < other[0] for one, other in zip(made, made[1:], strict=False))
    assert {n for a, b in made for n in range(a, b)} == {n for a, b in parts for n in range(a, b)}
