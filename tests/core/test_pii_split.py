"""A value cut anywhere, over texts or over a stream's pieces, alone or in a sentence, is caught; what is none stays none.

The values here are made up; where the repository stands beside a folder of measuring data, those of its pii-entities.json are cut too.
"""

import json
from pathlib import Path

import pytest

from pipeline.core.pii import detect, mask
from pipeline.core.pii.streams import HOLD, PiiStream

VALUES = {
    "EMAIL_ADDRESS": ["alice@example.com", "m-w.x+y@mail.example.co.uk", "d'arcy@example.org"],
    "CREDIT_CARD": ["4000 0566 5566 5556", "5200-8282-8282-8210", "378282246310005", "6011111111111117"],
    "IBAN_CODE": ["GB29 NWBK 6016 1331 9268 19", "NL91ABNA0417164300", "MT84MALT011000012345MTLCAST001S"],
    "US_SSN": ["512-44-8321", "512 44 8321"],
    "PHONE_NUMBER": ["(617) 555-0142", "+1 617 555 0142", "+49 30 901820", "+81 3-5253-1111", "01 42 68 53 00", "0044 20 7946 0018"],
    "IP_ADDRESS": ["198.51.100.23", "2001:db8::1428:57ab"],
    "US_BANK_NUMBER": ["account number 00123456789"],
}
HARMLESS = [
    "order 4000 0566 5566 5557", "version 10.4.2", "2025-03-14 09:26", "ISBN 978-0-306-40615-7", "the @ sign", "call me maybe",
    "is (212) and some 26 other things",
]  # fmt: skip
SENTENCES = ["{}", "Please note that it is {} and nothing else.", "Hi, {}", "So {}, then"]
MEASURING = Path(__file__).parents[3] / "shared" / "data" / "pii-entities.json"


def cases():
    values = {entity: list(those) for entity, those in VALUES.items()}
    harmless = list(HARMLESS)
    if MEASURING.exists():
        for entity, those in json.loads(MEASURING.read_text("utf-8")).items():
            if entity == "not_pii":
                harmless += those
            elif entity != "what":
                values[entity] += those
    return [(entity, value) for entity, those in values.items() for value in those], harmless


FOUND, NOT_FOUND = cases()


def streamed(pieces):
    stream = PiiStream("MASK")
    out, fed, longest = "", 0, 0
    for piece in pieces:
        out += stream.feed(piece)
        fed += len(piece)
        longest = max(longest, len(stream._pending))
    return out + stream.finish(), stream, longest


def cuts(text):
    for at in range(len(text) + 1):
        yield [text[:at], text[at:]]
    for size in range(1, 6):
        for first in range(size):
            yield [text[:first], *(text[at : at + size] for at in range(first, len(text), size))]


@pytest.mark.parametrize(("entity", "value"), FOUND)
def test_a_value_is_caught_wherever_it_is_cut(entity, value):
    for sentence in SENTENCES:
        text = sentence.format(value)
        whole = mask([text], detect([text]))[0]
        assert value not in whole
        for pieces in cuts(text):
            assert entity in {span.entity for span in detect(pieces)}, pieces
            out, stream, longest = streamed(pieces)
            assert out == whole, pieces
            assert stream.counts[entity] == 1
            assert longest <= HOLD


@pytest.mark.parametrize(("entity", "value"), [(entity, value) for entity, value in FOUND if entity != "EMAIL_ADDRESS"])
def test_over_two_texts_nothing_of_the_value_is_left(entity, value):
    for sentence in SENTENCES:
        text = sentence.format(value)
        for at in range(len(text) + 1):
            pieces = [text[:at], text[at:]]
            masked = "".join(mask(pieces, detect(pieces)))
            assert not set(filter(str.isdigit, value)) & set(masked), pieces


@pytest.mark.parametrize("value", NOT_FOUND)
def test_what_is_none_stays_none_wherever_it_is_cut(value):
    for sentence in SENTENCES:
        text = sentence.format(value)
        for pieces in cuts(text):
            assert detect(pieces) == [], pieces
            assert streamed(pieces)[0] == text
