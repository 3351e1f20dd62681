"""Server-sent events: however the bytes are cut, the same events come out, and no line or event outgrows its bound."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.providers import sse
from pipeline.providers.sse import Event, EventParser
from pipeline.providers.wire import Garbage

LINE = st.sampled_from(
    [b"", b"", b"data: {}", b"data:x", b"data", b"data:", b"data:  two", b": comment", b":", b"event: error", b"event:ping", b"event",
     b"id: 7", b"retry: 7", b"dat", b"data x:y", b"data: \xef\xbb\xbf", "data: Größe 🌊".encode(), b"data: \xff\xfe", b" data: no", b"\x00"]
)  # fmt: skip
END = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAM = st.builds(
    lambda bom, lines, rest: bom + b"".join(line + end for line, end in lines) + rest,
    st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(st.tuples(LINE, END), max_size=14), LINE,
)  # fmt: skip


def parsed(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def by_the_letter(data: bytes) -> list[Event]:
    """The standard's algorithm, line by line over all that came."""
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[Event] = []
    kind, buffer = b"", b""
    for line in data.split(b"\n")[:-1]:
        if line == b"":
            if buffer:
                events.append(Event(kind.decode("utf-8", "replace"), buffer.removesuffix(b"\n")))
            kind, buffer = b"", b""
            continue
        field, colon, value = line.partition(b":")
        if colon and value.startswith(b" "):
            value = value[1:]
        if field == b"event":
            kind = value
        elif field == b"data":
            buffer += value + b"\n"
    return events


@given(STREAM, st.lists(st.integers(0, 200), max_size=12))
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 8])
@example(b"data: a\r\n\r\ndata: b\r\r", [8, 8, 9, 10])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_any_cutting_of_the_bytes_gives_the_standards_events(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    expected = by_the_letter(data)
    assert parsed(data) == expected
    assert parsed(*(data[a:b] for a, b in zip(places, places[1:], strict=False))) == expected
    assert parsed(*(data[n : n + 1] for n in range(len(data)))) == expected


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\n", [("", b"a")]),
        (b"data: a\r\rdata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
        (b"event: ping\ndata: 1\n\ndata: 2\n\n", [("ping", b"1"), ("", b"2")]),
        (b"data: one\ndata:\ndata:  two\n\n", [("", b"one\n\n two")]),
        (b": keep-alive\n\n:\n\ndata\n\n", [("", b"")]),
        (b"event: lost\n\nid: 1\nretry: 5\nunknown: x\ndata: a:b\n\n", [("", b"a:b")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: not at the beginning\n\n", [("", b"a")]),
        (b"data: whole\n\ndata: without an end\n", [("", b"whole")]),
        (b"", []),
    ],
)
def test_what_counts_as_an_event(data: bytes, events: list[tuple[str, bytes]]) -> None:
    assert parsed(data) == [Event(*event) for event in events]


def test_an_event_comes_with_the_byte_that_ends_it() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r\n") == []
    assert parser.feed(b"\r") == [Event("", b"a")]
    assert parser.feed(b"\ndata: b\n") == []
    assert parser.feed(b"\n") == [Event("", b"b")]


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (b"data: " + b"x" * 94 + b"\n\n", True),
        (b"data: " + b"x" * 95 + b"\n\n", False),
        (b"data: " + b"x" * 95, False),
        (b": " + b"x" * 99, False),
        (b"data: x\n" * 12 + b"\n", True),
        (b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 34 + b"\n\n", False),
        (b"data\n" * 97 + b"\n", True),
        (b"data\n" * 98 + b"\n", False),
        (b"data: " + b"x" * 90 + b"\n\n" + b"data: " + b"x" * 90 + b"\n\n", True),
    ],
)
def test_a_line_is_bounded_with_the_data_before_it(monkeypatch: pytest.MonkeyPatch, data: bytes, fits: bool, size: int) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    if fits:
        assert parsed(*pieces)
    else:
        with pytest.raises(Garbage, match="too long"):
            parsed(*pieces)


def test_a_long_line_in_small_pieces_costs_its_length() -> None:
    parser = EventParser()
    begin = time.process_time()
    for _ in range(400_000):
        parser.feed(b"data: 90 1234567890")
    (event,) = parser.feed(b"\n\n")
    assert len(event.data) == 400_000 * 19 - 6
    # Joined anew with each piece, it would be over a terabyte copied.
    assert time.process_time() - begin < 10
