"""Keywords: hidden ones are found, innocent words are not, thousands cost no more than a few, and streams release none."""

import base64
import sys
from types import FrameType
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.keywords import KeywordMatcher, KeywordStream
from tests.cpu_time import fastest_ms

CYRILLIC = str.maketrans("aceopxyis", "асеорхуіѕ")
HIDDEN = {
    "zero width": lambda w: "\u200b".join(w),
    "soft hyphens": lambda w: "\u00ad".join(w),
    "tags": lambda w: "\U000e0061".join(w),
    "combining marks": lambda w: "\u0336".join(w),
    "bidirectional controls": lambda w: "\u202e".join(w),
    "full width": lambda w: "".join(chr(ord(c) + 0xFEE0) if c != " " else c for c in w),
    "mathematical letters": lambda w: "".join(chr(0x1D41A + ord(c) - 97) if c != " " else c for c in w),
    "Cyrillic lookalikes": lambda w: w.translate(CYRILLIC),
    "letters set apart": lambda w: " ".join(w.replace(" ", "")) if " " not in w else "  ".join(" ".join(part) for part in w.split()),
    "dots between letters": lambda w: " ".join(".".join(part) for part in w.split()),
    "digits for letters": lambda w: w.replace("o", "0").replace("e", "3").replace("a", "4").replace("s", "5"),
    "signs for letters": lambda w: w.replace("a", "@").replace("s", "$"),
    "base64": lambda w: base64.b64encode(w.encode()).decode(),
    "hexadecimal": lambda w: w.encode().hex(),
    "URL encoding": lambda w: "".join(f"%{b:02x}" for b in w.encode()),
    "URL encoding twice": lambda w: quote("".join(f"%{b:02x}" for b in w.encode())),
    "written in tags": lambda w: "".join(chr(0xE0000 + ord(c)) for c in w),
}


@pytest.mark.parametrize("trick", HIDDEN)
def test_a_hidden_keyword_is_found(trick):
    matcher = KeywordMatcher(["passcode", "operation seahorse"])
    assert matcher.find(f"tell me the {HIDDEN[trick]('passcode')} now") == {"passcode": 1}


@pytest.mark.parametrize("trick", [t for t in HIDDEN if "apart" not in t and "between" not in t])
def test_a_hidden_phrase_is_found(trick):
    matcher = KeywordMatcher(["passcode", "operation seahorse"])
    assert matcher.find(f"what is {HIDDEN[trick]('operation seahorse')} about") == {"operation seahorse": 1}


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("cop", "Мы выбросили сор из избы"),  # A Russian word that only looks like it.
        ("bob", "B0B5"),
        ("sea", "5 e a"),
        ("pass", "the passage"),
        ("abc", "a, b or c"),
        ("iphone手机", "iphone 手机"),
    ],
)
def test_what_only_resembles_a_keyword_is_left_alone(keyword, text):
    assert KeywordMatcher([keyword]).find(text) == {}


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("пароль", "мой ПАРОЛЬ такой"),
        ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς"),
        ("naïve plan", "NAÏVE plan"),
        ("密码", "我的密码是"),
        ("iphone手机", "买iphone手机壳"),
        ("รหัสผ่าน", "ขอรหัสผ่านหน่อย"),
        (".net", "in .NET we trust"),
        ("a/b test", "an A/B test"),
        ("???", "what???"),
        ("§", "see § 5"),
        ("e\u0301cole", "l'\u00e9cole"),
    ],
)
def test_keywords_in_any_script_and_with_any_sign_are_found(keyword, text):
    assert KeywordMatcher([keyword]).find(text) == {keyword: 1}


def test_how_often_each_keyword_stands_there_is_counted():
    matcher = KeywordMatcher(["red", "red fox", "c++"])
    assert matcher.find("Red fox, red dog. C++ and c++") == {"red": 2, "red fox": 1, "c++": 2}


def steps(text: str, matcher: KeywordMatcher) -> int:
    """How many instructions of Python a search takes: the same on every machine."""
    taken = 0

    def count(frame: FrameType, event: str, _: object) -> object:
        nonlocal taken
        frame.f_trace_opcodes = True
        taken += event == "opcode"
        return count

    matcher.find(text)  # What is remembered from text to text is there already.
    before = sys.gettrace()
    sys.settrace(count)
    try:
        matcher.find(text)
    finally:
        sys.settrace(before)
    return taken


@pytest.mark.parametrize("form", ["word{}", "some phrase {}", "code-{}", "#{}#", "词{}语"])
def test_ten_thousand_keywords_cost_no_more_than_ten(form):
    # The 7 that both sets have in a keyword of theirs has to be looked at more closely with either.
    text = "The quick brown fox, some phrase or other, code-word and 词语 # jump over 7 lazy dogs. " * 100
    few, many = (KeywordMatcher(form.format(chr(0x4E00 + i) if "词" in form else i) for i in range(1, count)) for count in (10, 10_000))
    assert steps(text, many) <= 1.01 * steps(text, few)
    # What one instruction may hide, a pattern of all keywords above all. The measurement, not the matcher, needs the slack.
    few_ms, many_ms = fastest_ms(lambda: few.find(text), lambda: many.find(text), runs=31)
    assert many_ms <= 1.5 * few_ms + 0.2


STREAMED = ["secret", "operation seahorse", "c++", "密码", "top secret plan"]


@example(words=["and so,", "p.s.", "secretary", "secretary", "and so,"], cuts=[37])
@given(
    st.lists(st.sampled_from([*STREAMED, "secretary", "operation", "top", "the", "and so,", "p.s.", "…"]), max_size=8),
    st.lists(st.integers(0, 140), max_size=10),
)
def test_a_stream_releases_all_or_ends_before_the_keyword(words, cuts):
    text = " ".join(words)
    cuts = sorted(min(cut, len(text)) for cut in cuts)
    matcher = KeywordMatcher(STREAMED)
    stream = KeywordStream(matcher)
    out = "".join([*(stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)), stream.finish()])
    assert stream.blocked is bool(matcher.find(text))
    assert not matcher.find(out)
    assert out == text if not stream.blocked else text.startswith(out)


def test_a_stream_holds_back_no_more_than_a_keyword_may_need():
    stream = KeywordStream(KeywordMatcher(["operation seahorse"]))
    released = ""
    text = "an operation is not a seahorse, and " * 20
    for fed, char in enumerate(text, 1):
        released += stream.feed(char)
        assert fed - len(released) <= 2 * len("operation seahorse") + 8
    assert released + stream.finish() == text


@given(st.sampled_from(STREAMED), st.text(max_size=40), st.lists(st.integers(0, 80), max_size=6))
def test_nothing_of_a_keyword_goes_out_before_it_ends_the_stream(keyword, after, cuts):
    before = "well, it is "
    text = f"{before}{keyword} {after}"
    cuts = sorted(min(cut, len(text)) for cut in cuts)
    stream = KeywordStream(KeywordMatcher(STREAMED))
    out = "".join([*(stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)), stream.finish()])
    assert stream.blocked
    assert before.startswith(out)
