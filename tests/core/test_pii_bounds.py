"""No text takes much longer than another of its size: what hostile texts cost, in milliseconds per KB."""

import random

import pytest

from pipeline.core.keywords import KeywordMatcher
from pipeline.core.pii import detect
from pipeline.core.pii.normalise import readings
from tests.cpu_time import fastest_ms

SIZE = 16_384
# Four to six times what the slowest takes on an idle machine; an ordinary text takes 0.2.
BOUND_MS_PER_KB = 20.0

_random = random.Random(7)
HOSTILE = {
    "one digit": "1",
    "dots": ".",
    "version numbers": "1.1.1.1.",
    "digits apart": "1 ",
    "digits and dashes": "1-",
    "groups of four": "4000 ",
    "wrong cards": "4000056655665557 ",
    "signs": "@",
    "signs and letters": "a@",
    "addresses cut short": "a.a@a.a ",
    "long local parts": "a" * 64 + "@",
    "long domains": "x@" + "a." * 40,
    "spaces": " ",
    "colons": ":",
    "short IPv6": "1::",
    "dates": "2025-03-14 09:26:53 ",
    "telephones": "call 555-0142, ",
    "country codes": "+1 ",
    "IBAN starts": "GB82",
    "wrong IBANs": "GB29NWBK60161331926818 ",
    "letters": "a",
    "base64": "QUFB",
    "hexadecimal": "61",
    "escapes": "%41",
    "escaped escapes": "%2541",
    "entities": "&amp;",
    "zero width": "4\u200b",
    "marks": "a\u0301",
    "tags": "\U000e0041",
    "selectors": "\ufe01",
    "ligatures": "ﬃ",
    "brackets": "[(",
    "spelled out": "a ", "spelled out with low lines": "a_", "spelled out signs": "-_", "spelled out and not ended": "a b c d e f gh ",
    "list numbers": "1) ", "IBANs in words": "is 21 a ", "country codes and dots": "+49.",
    "words for signs": " at a dot ",
    "Cyrillic": "привет ",
}  # fmt: skip
RANDOM = {
    "random digits": "".join(_random.choice("0123456789") for _ in range(SIZE)),
    "random of what numbers are made of": "".join(_random.choice("0123456789 .-/()+@:x") for _ in range(SIZE)),
    "every code point once": "".join(chr(0xA0 + i) for i in range(SIZE)),
}
ALL = {name: (unit * SIZE)[:SIZE] for name, unit in HOSTILE.items()} | RANDOM


def took_ms(function, *arguments) -> float:
    return fastest_ms(lambda: function(*arguments), runs=5)[0]


@pytest.mark.parametrize("name", ALL)
def test_no_text_takes_longer_than_its_size_allows(name):
    assert took_ms(detect, [ALL[name]]) <= BOUND_MS_PER_KB * SIZE / 1024


@pytest.mark.parametrize(
    "name", ["version numbers", "signs and letters", "zero width", "random of what numbers are made of", "letters", "groups of four"]
)
def test_the_time_grows_with_the_size_and_no_faster(name):
    short, long = ALL[name][: SIZE // 8], ALL[name]
    assert took_ms(detect, [long]) <= 8 * 2.5 * max(took_ms(detect, [short]), 0.2)


@pytest.mark.parametrize("name", ALL)
def test_readings_and_keywords_are_bounded_too(name):
    matcher = KeywordMatcher([f"word{i} of{i}" for i in range(1000)] + ["c++", "密码", "..."])
    assert took_ms(readings, ALL[name]) + took_ms(matcher.find, ALL[name]) <= BOUND_MS_PER_KB * SIZE / 1024


def test_many_small_texts_cost_no_more_than_one_large():
    assert took_ms(detect, ["4 "] * (SIZE // 2)) <= BOUND_MS_PER_KB * SIZE / 1024
