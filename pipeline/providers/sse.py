"""Server-sent events as they come off the wire, cut anywhere: bytes in, whole events out (WHATWG HTML, "Server-sent events").

Only `event` and `data` count; comments, ids, retry times and unknown fields are passed over. A line that with the data before it is longer
than MAX_EVENT_BYTES raises Garbage, as soon as so much of it has come. Pure; what the data mean is the callers'.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.providers.wire import Garbage

# A whole answer may come as one event (8 MiB is what is read of an answer at most, and lines of it are joined here).
MAX_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """`kind` is empty where the event names none; `data` may be anything."""

    kind: str
    data: bytes


class EventParser:
    """`feed` it whatever arrives."""

    def __init__(self) -> None:
        # A line whose end has not come, in the pieces in which it came: joined at its end only, or many small ones would cost their square.
        self._open: list[bytes] = []
        self._open_size = 0
        self._after_cr = False
        self._begun = False
        self._kind = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes."""
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in piece:
            # A line may end with CR LF whose halves come apart.
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = piece.split(b"\n")
        events: list[Event] = []
        for line in lines:
            self._hold(line)
            line = b"".join(self._open)
            self._open, self._open_size = [], 0
            self._take(line, events)
        self._hold(rest)
        return events

    def _hold(self, part: bytes) -> None:
        if part:
            self._open.append(part)
        self._open_size += len(part)
        if self._open_size + self._size > MAX_EVENT_BYTES:
            raise Garbage("has an event that is too long")

    def _take(self, line: bytes, events: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(Event(self._kind, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
            self._kind, self._data, self._size = "", [], 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif field == b"event":
            self._kind = value.decode("utf-8", "replace")
