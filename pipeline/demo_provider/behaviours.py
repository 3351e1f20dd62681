"""What the demo provider does to a call, read from the model's name: words joined by `+`, unknown words are just a name.

    demo                 answers at once: a digest of the last user message and a few words
    echo                 the answer is the last user message itself
    say-TEXT             the answer is TEXT, with `_` for spaces
    tool, length         the answer calls the first tool of the request; ends for length
    slow-S               answers after S seconds
    words-N, endless     the answer has N words, up to 100,000; has all of these, so that a stream of it ends when the caller goes away
    drip-S               one byte every S seconds (a stream: one event)
    pieces-N             a stream's pieces have N characters (8)
    cut-N, stall-N       a stream's connection is closed after N pieces; after N pieces nothing more comes
    error-N              a stream ends after N pieces with the provider's error event
    whole                a stream is answered with a whole answer
    fail-CODE            this status with an error in the provider's form; 429 and 503 with `retry-after: 1`
    html-CODE            this status with an HTML page
    garbage, deep, surrogate, nul      not JSON; nested 5,000 deep; a lone surrogate; a NUL in the text
    wrong-types          JSON, but the choices are no list
    no-usage, bad-usage  without token counts; with counts of wrong types
    huge-MB, bomb-MB     so many megabytes of answer; the same, compressed
    half                 the first half of the answer, then the connection is closed (a stream: half the pieces)
    close, hang          the connection is closed without a byte; nothing ever comes
    redirect             302 to another path

So `echo+slow-0.5` echoes after half a second. In a stream damaged text or JSON is an event after the first piece. Pure; a number that
can't be read makes its word just a name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

MAX_MEGABYTES = 256
MAX_WORDS = 100_000
_PLAIN = frozenset({"garbage", "deep", "surrogate", "nul", "wrong-types", "no-usage", "bad-usage", "half", "close", "hang", "redirect"})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Sizes are megabytes, times seconds. `damage` is the one word that spoils the answer, if any; `stop` how a stream stops after
    `stop_after` pieces."""

    echo: bool = False
    say: str | None = None
    words: int | None = None
    tool: bool = False
    length: bool = False
    slow_s: float = 0.0
    drip_s: float = 0.0
    piece_characters: int = 8
    stop: str | None = None
    stop_after: int | None = None
    whole: bool = False
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
        if changes := _changes(word):
            behaviour = replace(behaviour, **changes)
    return behaviour


def _changes(word: str) -> dict[str, Any]:
    if word in _PLAIN:
        return {"damage": word}
    if word in ("echo", "tool", "length", "whole"):
        return {word: True}
    if word == "endless":
        return {"words": MAX_WORDS}
    kind, _, argument = word.partition("-")
    try:
        match kind:
            case "say":
                return {"say": argument.replace("_", " ")}
            case "slow" | "drip":
                return {f"{kind}_s": min(max(float(argument), 0.0), 3_600.0)}
            case "words":
                return {"words": min(max(int(argument), 1), MAX_WORDS)}
            case "cut" | "stall" | "error":
                return {"stop": kind, "stop_after": max(int(argument), 0)}
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
