"""A stream, however it is cut, releases what masking the whole text would give, and holds back little."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.pii import MASK, detect, mask
from pipeline.core.pii.streams import HOLD, TAILS, PiiStream, tail_begins

VALUES = [
    "alice@example.com", "b.jones+news@mail.example.co.uk", "4000 0566 5566 5556", "5200-8282-8282-8210", "378282246310005",
    "GB29 NWBK 6016 1331 9268 19", "NL91ABNA0417164300", "512-44-8321", "512 44 8321", "(617) 555-0142", "+1 617 555 0142",
    "+49 30 901820", "+81 3-5253-1111", "01 42 68 53 00", "198.51.100.23", "2001:db8::8a2e:370:7334", "account number 00123456789",
    "call 555 0142", "555 0142 is my office number", "alice at example dot com", "alice [at] example [dot] com", "bob＠example.org",
    "４０００ 0566 5566 5556", "b\u200bo\u200bb@example.org", "Ym9iQGV4YW1wbGUuY29t", "626f62406578616d706c652e636f6d", "bob%40example.com",
    "6 1 7 - 5 5 5 - 0 1 4 2", "4 0 0 0 0 5 6 6 5 5 6 6 5 5 5 6",
    "b o b @ e x a m p l e . o r g", "6.1.7.-.5.5.5.-.0.1.4.2", "5 1 2   4 4   8 3 2 1", "1*9*8*.*5*1*.*1*0*0*.*2*3",
    "62 6f 62 40 65 78 61 6d 70 6c 65 2e 6f 72 67",
    "\U000e0062\U000e006f\U000e0062\U000e0040\U000e0061\U000e002e\U000e0069\U000e006f",
]  # fmt: skip
HARMLESS = [
    "order 4000 0566 5566 5557",
    "version 10.4.2",
    "2025-03-14 09:26",
    "the @ sign",
    "call me maybe",
    "look at the house dot",
    "",
    "好的，没问题。",
]


def through(pieces: list[str], behavior: str = "MASK") -> tuple[str, PiiStream]:
    stream = PiiStream(behavior)  # type: ignore[arg-type]
    return "".join([*map(stream.feed, pieces), stream.finish()]), stream


def whole(text: str) -> str:
    return mask([text], detect([text]))[0]


@pytest.mark.parametrize("value", VALUES + HARMLESS)
@pytest.mark.parametrize("sentence", ["{}", "Well, it is {} as I said, and so on and on.", "A:\n{}\n{}, {}"])
def test_cut_at_any_place_the_whole_text_s_masks_come_out(value, sentence):
    text = sentence.replace("{}", value)
    expected = whole(text)
    assert value in HARMLESS or MASK in expected
    for cut in range(len(text) + 1):
        assert through([text[:cut], text[cut:]])[0] == expected, cut
    assert through(list(text))[0] == expected


@given(st.lists(st.sampled_from([*VALUES, *HARMLESS, "and", "or, then", "Phone:", "1234", "\n"]), max_size=8), st.data())
def test_cut_at_any_places_the_whole_text_s_masks_come_out(words, data):
    text = " so ".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert through(pieces)[0] == whole(text)


SIGNS = [*"abAtTdDoO0159_ .-*|@[](){}<>+':,;\n\t%", "好", "é", " at ", " dot ", " AT", "GB29", "12 ", "62 6f", "word ", " (at) "]


@example(text=" at %{]'&{-12 9a (at) % dot 1A-word O&GB29}5t_at.>好")
@given(text=st.lists(st.sampled_from(SIGNS), max_size=90).map("".join))
def test_the_quick_search_for_a_tail_finds_what_all_searches_find(text):
    low = max(0, len(text) - HOLD)
    found = [match.start() for tail in TAILS.values() if (match := tail.search(text, low))]
    assert tail_begins(text, low) == min(found, default=len(text))


@pytest.mark.parametrize(
    "text",
    ["lorem ipsum dolor sit amet " * 20, "x" * 500, "1 " * 300, "4000 " * 100, "+1 " * 200, "a.b-" * 100, "好的" * 100, "GB29 " * 90],
)
def test_no_more_is_held_back_than_promised(text):
    stream = PiiStream("MASK")
    released = 0
    for fed, piece in enumerate(text, 1):
        released += len(stream.feed(piece))
        assert fed - released <= HOLD


def test_ordinary_words_go_out_at_once():
    stream = PiiStream("MASK")
    assert stream.feed("The answer is simple. It ").startswith("The answer is simple. ")


@pytest.mark.parametrize("value", VALUES)
def test_a_block_ends_the_stream_before_any_of_the_value_is_out(value):
    out, stream = through(list(f"Well, it is {value} as I said, and so on."), "BLOCK")
    assert stream.blocked
    assert "Well, it is ".startswith(out[:12])
    assert len(out) <= len("Well, it is account number ")
    assert sum(stream.counts.values()) == 1


def test_an_address_longer_than_what_is_held_back_is_masked_all_the_same():
    text = "to " + "a" * 30 + "@" + "mail." * 20 + "example.com now"
    out, stream = through(list(text))
    assert out == f"to {MASK} now"
    assert stream.counts == {"EMAIL_ADDRESS": 1}
