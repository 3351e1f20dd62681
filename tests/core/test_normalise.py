"""Tricks that hide a value from a plain search, each masked in the text as it came; and that readings map back to where they came from."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.pii import MASK, detect, mask
from pipeline.core.pii.normalise import readings

FULL_WIDTH = {ord(c): chr(ord(c) + 0xFEE0) for c in map(chr, range(0x21, 0x7F))}
MATHEMATICAL = {ord("a") + i: chr(0x1D41A + i) for i in range(26)} | {ord("0") + i: chr(0x1D7CE + i) for i in range(10)}
CYRILLIC = str.maketrans("aceopxyi", "асеорхуі")
GREEK = str.maketrans("aoviku", "αονικυ")
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
CIRCLED = str.maketrans("123456789", "①②③④⑤⑥⑦⑧⑨")
VALUES = ["alice.voce@example.com", "4000 0566 5566 5556", "617-555-0142", "512-44-8321", "GB29 NWBK 6016 1331 9268 19", "198.51.100.23"]
DIGITS = ["4000 0566 5566 5556", "617-555-0142", "512-44-8321", "198.51.100.23"]


def between(value: str, what: str) -> str:
    return what.join(value)


TRICKS = {
    "zero width": lambda v: between(v, "\u200b"),
    "several invisible characters": lambda v: between(v, "\u200d\u2060\ufeff"),
    "soft hyphens": lambda v: between(v, "\u00ad"),
    "bidirectional controls": lambda v: between(v, "\u202d\u2066\u2069\u202c"),
    "tags in between": lambda v: between(v, "\U000e0061"),
    "variation selectors in between": lambda v: between(v, "\ufe0f"),
    "combining marks": lambda v: between(v, "\u0336"),
    "Hangul fillers": lambda v: between(v, "\u3164"),
    "full width": lambda v: v.translate(FULL_WIDTH),
    "mathematical letters and digits": lambda v: v.translate(MATHEMATICAL),
    "Cyrillic lookalikes": lambda v: v.translate(CYRILLIC),
    "Greek lookalikes": lambda v: v.translate(GREEK),
    "written in tags alone": lambda v: "".join(chr(0xE0000 + ord(c)) for c in v),
    "written in variation selectors": lambda v: "".join(chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in v.encode()),
    "spelled out with spaces": lambda v: between(v, " "),
    "spelled out with dots": lambda v: between(v, "."),
    "spelled out with dashes": lambda v: between(v, "-"),
    "spelled out with low lines": lambda v: between(v, "_"),
    "spelled out with stars": lambda v: between(v, "*"),
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 for URLs, unpadded": lambda v: base64.urlsafe_b64encode(v.encode()).decode().rstrip("="),
    "base64 of a sentence": lambda v: base64.b64encode(f"my data: {v}, thank you ¿".encode()).decode(),
    "base64 twice": lambda v: base64.b64encode(base64.b64encode(v.encode())).decode(),
    "hexadecimal": lambda v: v.encode().hex(),
    "hexadecimal with spaces": lambda v: v.encode().hex(" "),
    "hexadecimal escapes": lambda v: "".join(f"\\x{b:02x}" for b in v.encode()),
    "URL encoding": lambda v: quote(v, safe=""),
    "URL encoding of every byte": lambda v: "".join(f"%{b:02X}" for b in v.encode()),
    "URL encoding twice": lambda v: quote(quote(v, safe=""), safe=""),
    "HTML entities": lambda v: "".join(f"&#{ord(c)};" for c in v),
    "hexadecimal HTML entities": lambda v: "".join(f"&#x{ord(c):x};" for c in v),
    "JSON escapes": lambda v: "".join(f"\\u{ord(c):04x}" for c in v),
}
OF_DIGITS = {
    "Arabic digits": lambda v: v.translate(ARABIC),
    "circled digits": lambda v: v.translate(CIRCLED),
    "keycaps": lambda v: "".join(c + "\ufe0f\u20e3" if c.isdigit() else c for c in v),
    "typographic dashes and spaces": lambda v: v.replace("-", "\u2013").replace(" ", "\u202f"),
    "a one-dot leader": lambda v: v.replace(".", "․"),
}
CARD = "4000056655665556"
SEPARATED = [" ", "-", ".", "_", "/", "*", " - ", ", ", "\n", "\t", "\u200b", "·", "|", "+", "~"]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("trick", TRICKS)
def test_a_hidden_value_is_masked_and_nothing_beside_it(trick, value):
    hidden = TRICKS[trick](value)
    text = f"Hello, this is {hidden} for you"
    assert mask([text], detect([text])) == [f"Hello, this is {MASK} for you"]


@pytest.mark.parametrize("value", DIGITS)
@pytest.mark.parametrize("trick", OF_DIGITS)
def test_a_number_in_other_signs_is_masked(trick, value):
    text = f"Hello, this is {OF_DIGITS[trick](value)} for you"
    (masked,) = mask([text], detect([text]))
    assert masked.startswith("Hello, this is [REDACTED]")
    assert masked.endswith(" for you")


@pytest.mark.parametrize("separator", SEPARATED)
def test_separators_inside_a_card_hide_nothing(separator):
    for text in (
        between(CARD, separator),
        separator.join(CARD[i : i + 4] for i in range(0, 16, 4)),
        separator.join(CARD[i : i + 2] for i in range(0, 16, 2)),
    ):
        assert mask([f"so: {text} end"], detect([f"so: {text} end"])) == [f"so: {MASK} end"]


@pytest.mark.parametrize(
    "written",
    [
        "alice [at] example [dot] com",
        "alice(at)example.com",
        "alice at example dot com",
        "alice[@]example[.]com",
        "alice @ example dot co dot uk",
    ],
)
def test_an_address_in_words_is_found(written):
    assert [s.entity for s in detect([f"write to {written}"])] == ["EMAIL_ADDRESS"]


def test_padding_hides_nothing():
    text = "lorem ipsum " * 17_000 + "alice@example.com" + " dolor sit" * 20_000
    assert mask([text], detect([text])) == [text.replace("alice@example.com", MASK)]


def test_plain_text_has_one_reading():
    assert len(readings("The quick brown fox, 100% of internationalization & so on: C:\\dir. naïve café")) == 1


@given(st.text(max_size=60), st.sampled_from(VALUES), st.text(max_size=60), st.sampled_from(sorted(TRICKS)))
def test_no_reading_raises_and_every_place_maps_into_the_text(before, value, after, trick):
    text = before + TRICKS[trick](value) + after
    for reading in readings(text):
        last = 0
        for i in range(len(reading.text)):
            start, end = reading.origin(i, i + 1)
            assert 0 <= start < end <= len(text)
            assert start >= last
            last = start
