"""Readings of a text: what a reader or a model sees in it, with every position mapped back to the text as it came.

    folded    invisible characters and combining marks gone, compatibility forms and lookalikes of ASCII letters, digits, `@`, dots and
              dashes as ASCII
    spelled   characters that stand one by one, the same sign between any two, joined
    decoded   URL, HTML and JSON escapes, base64, hexadecimal, Unicode tags and variation-selector bytes as the text they stand for

A reading is only made where it differs from what came before, so plain ASCII costs a few searches for single characters. What is
encoded twice is decoded twice, not oftener. Pure; never fails; time and size are linear in the text.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

MAX_DEPTH = 2

# Letters of other scripts that look like ASCII ones in common typefaces; their capitals follow below. Compatibility forms
# (full width, mathematical, circled) are not here: NFKC knows them.
_LOOKALIKES = {
    # Cyrillic
    "а": "a", "с": "c", "ԁ": "d", "е": "e", "һ": "h", "і": "i", "ј": "j", "ӏ": "l", "ո": "n", "о": "o", "р": "p", "ԛ": "q",
    "ѕ": "s", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y", "ё": "e", "ї": "i",
    "А": "A", "В": "B", "С": "C", "Е": "E", "Н": "H", "І": "I", "Ј": "J", "К": "K", "М": "M", "О": "O", "Р": "P", "Ѕ": "S", "Т": "T",
    "Х": "X", "У": "Y", "Ѵ": "V", "Ԝ": "W", "Ԛ": "Q", "Ԁ": "D", "Ӏ": "I", "Һ": "H", "Ѐ": "E", "Ё": "E", "Ї": "I",
    # Greek
    "α": "a", "ο": "o", "ρ": "p", "ν": "v", "ι": "i", "κ": "k", "χ": "x", "υ": "u", "γ": "y", "ϲ": "c", "ϳ": "j",
    "Α": "A", "Β": "B", "Ε": "E", "Ζ": "Z", "Η": "H", "Ι": "I", "Κ": "K", "Μ": "M", "Ν": "N", "Ο": "O", "Ρ": "P", "Τ": "T", "Υ": "Y",
    "Χ": "X", "Ϲ": "C", "Ϳ": "J",
    # Armenian, Latin beyond ASCII, small capitals
    "օ": "o", "ս": "u", "ց": "g", "հ": "h", "զ": "q", "ӕ": "ae", "ı": "i", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ɪ": "i", "ʏ": "y", "ɴ": "n",
    "ʀ": "r", "ʙ": "b", "ɢ": "g", "ʜ": "h", "ʟ": "l", "ᴀ": "a", "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ᴊ": "j", "ᴋ": "k", "ᴍ": "m", "ᴏ": "o",
    "ᴘ": "p", "ꜰ": "f", "ꜱ": "s", "ᴛ": "t", "ᴜ": "u", "ᴠ": "v", "ᴡ": "w", "ᴢ": "z", "ƅ": "b", "ǀ": "l", "ℓ": "l", "ⲟ": "o",
    # Signs
    "。": ".", "․": ".", "‧": ".", "∙": ".", "⋅": ".", "·": ".", "•": ".", "۔": ".", "٫": ".", "܁": ".", "،": ",", "⁃": "-", "−": "-",
    "➖": "-", "─": "-", "ー": "-", "∕": "/", "⁄": "/", "╱": "/", "∶": ":", "꞉": ":", "ː": ":", "ⓐ": "@", "➕": "+", "＇": "'", "’": "'",
}  # fmt: skip

# Letters by their category, yet drawn as nothing.
_UNDRAWN = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f")

_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_ESCAPES = re.compile(
    r"(?:%[0-9A-Fa-f]{2})+|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[a-z]{2,8});|(?:\\u[0-9A-Fa-f]{4})+|(?:\\x[0-9A-Fa-f]{2})+"
)
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0[xX])?((?:[0-9A-Fa-f]{2}){7,}|[0-9A-Fa-f]{2}(?:[ :-][0-9A-Fa-f]{2}){6,})(?![0-9A-Za-z])")
# What every such run has in it, and is found in a quarter of the time.
_HAS_HEX = re.compile(r"[0-9A-Fa-f]{2}[ :-]?[0-9A-Fa-f]{2}[ :-]?[0-9A-Fa-f]{2}[ :-]?[0-9A-Fa-f]{2}")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{10,}={0,2}(?![A-Za-z0-9+/_=-])")
# Characters one by one, the same sign between any two of them: "b o b @ e x a m p l e . o r g".
_SPELLED = re.compile(r"(?<!\w)[^\s]([ .\-_*|])(?:[^\n]\1){5,300}[^\s](?!\w)")
# What every such run has in it, and is found in a quarter of the time.
_BEGINS_SPELLED = re.compile(r"([ .\-_*|])[^\n]\1[^\n]\1")
_HEX_SEPARATORS = str.maketrans("", "", " :-")


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a text. `text` is what is searched; `origin` tells where in the text as it came a part of it stands.

    `decoded`: something in it was encoded.
    """

    text: str
    _places: tuple[int, ...] = ()
    _origins: tuple[tuple[int, int], ...] = ()  # For each place: where it came from, and 0, or that piece's end where it is one whole.
    _below: Reading | None = None
    decoded: bool = False

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The part [start, end) of this reading, as a part of the text as it came; what was decoded as one comes back as one."""
        if self._places:
            at = bisect_right(self._places, start) - 1
            base, whole = self._origins[at]
            first = base if whole else base + start - self._places[at]
            at = bisect_right(self._places, end - 1) - 1
            base, whole = self._origins[at]
            start, end = first, whole or base + end - self._places[at]
        return self._below.origin(start, end) if self._below else (start, end)


def _replaced(below: Reading, changes: Iterable[tuple[int, int, str]], decoded: bool = True) -> Reading | None:
    """`below` with the parts [start, end) replaced, in order; None where there are none."""
    text, done, size = below.text, 0, 0
    pieces: list[str] = []
    places: list[int] = []
    origins: list[tuple[int, int]] = []
    for start, end, new in changes:
        if start > done or not places:
            places.append(size)
            origins.append((done, 0))
            pieces.append(text[done:start])
            size += start - done
        if new:
            places.append(size)
            origins.append((start, end))
            pieces.append(new)
            size += len(new)
        done = end
    if not places:
        return None
    places.append(size)
    origins.append((done, 0))
    pieces.append(text[done:])
    return Reading("".join(pieces), tuple(places), tuple(origins), below, decoded or below.decoded)


def _ascii_form(char: str) -> str:
    """What `char` looks like, in ASCII where it can be; empty where nothing is drawn."""
    known = _LOOKALIKES.get(char)
    if known is not None:
        return known
    category = unicodedata.category(char)
    if category in ("Cf", "Mn", "Me") or char in _UNDRAWN:
        return ""
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    if category == "Zs":
        return " "
    if category in ("Zl", "Zp"):
        return "\n"
    if category == "Pd":
        return "-"
    name = unicodedata.name(char, "")
    if name.startswith(("NEGATIVE SQUARED LATIN CAPITAL LETTER ", "NEGATIVE CIRCLED LATIN CAPITAL LETTER ")):
        return name[-1]
    form = unicodedata.normalize("NFKC", char)
    if form == char:
        return char
    return "".join(_LOOKALIKES.get(c, c) for c in form if unicodedata.category(c) not in ("Cf", "Mn", "Me"))


class _Forms(dict[int, str]):
    """ASCII forms by code point, each worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        form = _ascii_form(chr(code)) if code > 127 else chr(code)
        self[code] = form
        return form


_forms = _Forms()


def fold_lookalikes(text: str) -> str:
    """The folded reading's text alone, without positions: for searches that only count."""
    return text if text.isascii() else text.translate(_forms)


def _folded(below: Reading) -> Reading | None:
    text = below.text
    if text.isascii():
        return None
    met = {ord(char) for char in set(text) if ord(char) > 127}
    moving = [code for code in met if len(_forms[code]) != 1]
    if not moving:
        plain = text.translate(_forms)
        return Reading(plain, (), (), below, below.decoded) if plain != text else None
    found = re.compile("[" + "".join(re.escape(chr(code)) for code in moving) + "]+").finditer(text)
    moved = _replaced(below, ((m.start() + i, m.start() + i + 1, _forms[ord(c)]) for m in found for i, c in enumerate(m.group())), False)
    assert moved is not None
    return Reading(moved.text.translate(_forms), moved._places, moved._origins, below, below.decoded)


def _readable(data: bytes) -> str | None:
    """`data` as text where it is some; None for what only looked encoded."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if sum(c.isprintable() or c in "\r\n\t" for c in text[:512]) >= 0.9 * len(text[:512]) else None


def _decode_base64(found: str) -> str | None:
    body = found.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _readable(base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + "=" * (-len(body) % 4 % 3), validate=True))
    except binascii.Error:
        return None


def _decode_escape(found: str) -> str | None:
    if found[0] == "&":
        text = html.unescape(found)
        return None if text == found else text
    if found[0] == "%":
        return unquote_to_bytes(found).decode("utf-8", "ignore")
    width = 6 if found[1] == "u" else 4
    units = [int(found[i + 2 : i + width], 16) for i in range(0, len(found), width)]
    return b"".join(u.to_bytes(2, "little") for u in units).decode("utf-16-le", "ignore")


def _from_selectors(found: str) -> str | None:
    return _readable(bytes(ord(c) - 0xFE00 if c <= "\ufe0f" else ord(c) - 0xE0100 + 16 for c in found))


def _changes(text: str) -> Iterator[tuple[int, int, str]]:
    if "%" in text or "&" in text or "\\" in text:
        for m in _ESCAPES.finditer(text):
            new = _decode_escape(m.group())
            if new is not None:
                yield m.start(), m.end(), new
    for m in _HEX.finditer(text) if _HAS_HEX.search(text) else ():
        new = _readable(binascii.unhexlify(m.group(1).translate(_HEX_SEPARATORS)))
        if new is not None:
            yield m.start(), m.end(), new
    for m in _BASE64.finditer(text):
        new = _decode_base64(m.group())
        if new is not None:
            yield m.start(), m.end(), new


def _hidden(below: Reading) -> Reading | None:
    """What is written in code points that no font draws."""
    tags = ((m.start(), m.end(), "".join(chr(ord(c) - 0xE0000) for c in m.group())) for m in _TAGS.finditer(below.text))
    bytes_ = ((m.start(), m.end(), new) for m in _SELECTORS.finditer(below.text) if (new := _from_selectors(m.group())) is not None)
    return _replaced(below, sorted([*tags, *bytes_]))


def _spelled(below: Reading) -> Reading | None:
    """What is spelled out, with the signs between its characters taken away."""
    if not _BEGINS_SPELLED.search(below.text):
        return None
    return _replaced(
        below, ((place, place + 1, "") for run in _SPELLED.finditer(below.text) for place in range(run.start() + 1, run.end(), 2))
    )


def _decoded(below: Reading) -> Reading | None:
    changes: list[tuple[int, int, str]] = []
    for change in sorted(_changes(below.text)):
        if not changes or change[0] >= changes[-1][1]:
            changes.append(change)
    return _replaced(below, changes)


def folded(text: str) -> Reading:
    """`text` as it looks, in ASCII where it can be."""
    plain = Reading(text)
    return _folded(plain) or plain


# The guardrails of one request read the same texts one after the other.
@lru_cache(maxsize=16)
def readings(text: str) -> tuple[Reading, ...]:
    """`text` as it came, first, and every other way to read it that differs."""
    made = [Reading(text)]
    latest = made[0]
    if not text.isascii():
        hidden = _hidden(latest)
        if hidden is not None:
            made.append(_folded(hidden) or hidden)
        latest = _folded(latest) or latest
        if latest is not made[0]:
            made.append(latest)
    spelled = _spelled(latest)
    if spelled is not None:
        made.append(spelled)
    for _ in range(MAX_DEPTH):
        decoded = _decoded(latest)
        if decoded is None:
            break
        latest = _folded(decoded) or decoded
        made.append(latest)
    return tuple(made)
