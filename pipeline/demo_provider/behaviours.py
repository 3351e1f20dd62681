"""What the demo provider does to a call, read from the model's name: words joined by `+`, unknown words are just a name.

    demo                 answers at once: a digest of the last user message and a few words
    echo                 the answer is the last user message itself
    say-TEXT             the answer is TEXT, with `_` for spaces
    tool, length         the answer calls the first tool of the request; ends for length
    slow-S               answers after S seconds
    drip-S               one byte every S seconds (a stream: one piece)
    pieces-N             a stream's pieces have N characters (8)
    fail-CODE            this status with an error in the provider's form; 429 and 503 with `retry-after: 1`
    html-CODE            this status with an HTML page
    garbage, deep, surrogate, nul      not JSON; nested 5,000 deep; a lone surrogate; a NUL in the text
    wrong-types          JSON, but the choices are no list
    no-usage, bad-usage  without token counts; with counts of wrong types
    huge-MB, bomb-MB     so many megabytes of answer; the same, compressed
    half                 the first half of the answer, then the connection is closed
    close, hang          the connection is closed without a byte; nothing ever comes
    redirect             302 to another path

So `echo+slow-0.5` echoes after half a second. Pure; a number that can't be read makes its word just a name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

MAX_MEGABYTES = 256
_PLAIN = frozenset({"garbage", "deep", "surrogate", "nul", "wrong-types", "no-usage", "bad-usage", "half", "close", "hang", "redirect"})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Sizes are megabytes, times seconds. `damage` is the one word that spoils the answer, if any."""

    echo: bool = False
    say: str | None = None
    tool: bool = False
    length: bool = False
    slow_s: float = 0.0
    drip_s: float = 0.0
    piece_characters: int = 8
    status: int = 200
    html: bool = False
    damage: str | None = None
    megabytes: float = 0.0


DEFAULT = Behaviour()


@lru_cache(maxsize=1_000)
def behaviour_of(model: str) -> Behaviour:
    """The behaviour that a model's name asks for."""
    behaviour = DEFAULT
    for word in model.split("+"):
        behaviour = replace(behaviour, **_changes(word))
    return behaviour


def _changes(word: str) -> dict[str, Any]:
    if word in _PLAIN:
        return {"damage": word}
    if word in ("echo", "tool", "length"):
        return {word: True}
    kind, _, argument = word.partition("-")
    try:
        match kind:
            case "say":
                return {"say": argument.replace("_", " ")}
            case "slow" | "drip":
                return {f"{kind}_s": min(max(float(argument), 0.0), 3_600.0)}
            case "pieces":
                return {"piece_characters": max(int(argument), 1)}
            case "fail" | "html":
                return {"status": _status(argument), "html": kind == "html"}
            case "huge" | "bomb":
                return {"damage": kind, "megabytes": min(max(float(argument), 0.0), MAX_MEGABYTES)}
    except ValueError:
        pass
    return {}


def _status(text: str) -> int:
    status = int(text)
    if not 200 <= status <= 599:
        raise ValueError(text)
    return status
