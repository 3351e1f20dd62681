"""All text of a request or an answer in OpenAI's shape, wherever it stands: what guardrails look at, what is masked and what is counted.

    texts = texts_of_request(body)               what guardrails look at: every text, and in which orders they are read
    body = texts.replaced(masked)                a copy of the body with other texts in their places
    request_texts(body), answer_texts(body)      what counts as characters of a request or an answer

Looked at is everything but what only steers the protocol: messages (content, parts, names, tool calls and their results, refusals,
reasoning), tool definitions, prompts, embeddings' inputs, fields that the gateway doesn't know, every choice of an answer. Text that is
JSON itself, as tool-call arguments are, is taken apart: its strings, its keys and its long numbers are texts. Pictures, sound and files
are not text. Pure; never fails; the body itself is never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InvalidParameter
from pipeline.json_text import dump_text, parse

# Text that only steers the protocol: looking at it would find "user" in every message.
_STRUCTURAL = frozenset({"role", "type", "object", "id", "model", "finish_reason", "tool_call_id", "encoding_format", "created",
                         "system_fingerprint", "service_tier", "detail", "format", "response_format"})  # fmt: skip
_REQUEST_FIELDS = ("messages", "prompt", "suffix", "input", "tools", "functions")


def request_texts(body: dict[str, Any]) -> Iterator[str]:
    """Every text of a request's body."""
    for field in _REQUEST_FIELDS:
        yield from _walk(body.get(field))


def answer_texts(body: dict[str, Any]) -> Iterator[str]:
    """Every text of an answer: all choices, with tool-call arguments and reasoning."""
    yield from _walk(body.get("choices"))


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in _STRUCTURAL:
                yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def characters(texts: Iterator[str]) -> int:
    """How many characters of text there are."""
    return sum(map(len, texts))


# Strings under these names steer the protocol: no free text, and a keyword such as "user" or "text" would be found everywhere.
_STEERING = frozenset({"role", "type", "object", "model", "finish_reason", "native_finish_reason", "system_fingerprint", "service_tier",
                       "encoding_format", "detail", "reasoning_effort", "effort", "verbosity", "truncation", "tool_choice"})  # fmt: skip
# Parts of an answer that hold no text of their own: numbers, and tokens that say the text once more (see `replaced`).
_NO_TEXT = frozenset({"usage", "embedding", "logprobs", "top_logprobs"})
_ANSWER_STEERING = frozenset({"id", "object", "created", "model"})
_MEDIA = re.compile(
    r"data:(?:image|audio|video)/[^,]{0,100};base64,|data:application/(?:pdf|octet-stream)[^,]{0,100};base64,", re.IGNORECASE
)
_SOUND = frozenset({("input_audio", "data"), ("audio", "data")})
# A number with fewer digits is no personal data.
_LONG_NUMBER = 1_000_000

_JSON = object()  # A step of a path: into the JSON that a text holds.


@dataclass(frozen=True, slots=True)
class _Key:
    """The last step of a path that leads to a name within an object, not to what it names."""

    name: str


@dataclass(frozen=True, slots=True)
class BodyTexts:
    """Every text of one body. `sequences`: by their numbers, the orders in which texts are read after each other."""

    texts: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...]
    _paths: tuple[tuple[Any, ...], ...]
    _body: dict[str, Any]

    def replaced(self, texts: Sequence[str]) -> dict[str, Any]:
        """A copy of the body with `texts` (as many as there are) instead; the same object where none differs.

        Where a choice's text differs, its log probabilities go: they spell the text out token by token.
        """
        tree: dict[Any, Any] = {}
        for path, old, new in zip(self._paths, self.texts, texts, strict=True):
            if old != new:
                at = tree
                for step in path[:-1]:
                    at = at.setdefault(step, {})
                at[path[-1]] = new
        if not tree:
            return self._body
        changed: dict[str, Any] = _applied(self._body, tree)
        for place in tree.get("choices", ()):
            choice = changed["choices"][place]
            if isinstance(choice, dict) and choice.get("logprobs") is not None:
                changed["choices"][place] = choice | {"logprobs": None}
        return changed


def _applied(value: Any, tree: Any) -> Any:
    if isinstance(tree, str):
        return tree
    if _JSON in tree:
        return dump_text(_applied(parse(value.encode()), tree[_JSON]))
    if isinstance(value, list):
        return [_applied(inner, tree[place]) if place in tree else inner for place, inner in enumerate(value)]
    made: dict[str, Any] = {}
    for name, inner in value.items():
        named = tree.get(_Key(name), name)
        # Two names may come to be the same one; neither's value is lost.
        count = 2
        while named in made:
            named, count = f"{tree.get(_Key(name), name)} {count}", count + 1
        made[named] = _applied(inner, tree[name]) if name in tree else inner
    return made


class _Gathering:
    """Texts and where they stand, as they are come upon."""

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self.without = without
        self.texts: list[str] = []
        self.paths: list[tuple[Any, ...]] = []

    def add(self, path: tuple[Any, ...], text: str) -> None:
        if text:
            self.paths.append(path)
            self.texts.append(text)

    def walk(self, value: Any, path: tuple[Any, ...], free: bool = False) -> None:
        """Every text in `value`; `free`: in an object of the caller's making, where names are texts and none of them steers."""
        if isinstance(value, str):
            inner = _json_in(value)
            if inner is not None:
                self.walk(inner, (*path, _JSON), True)
            elif not _MEDIA.match(value):
                self.add(path, value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if free:
                    self.add((*path, _Key(name)), name)
                elif name in self.without or (name in _STEERING and isinstance(inner, str)) or (path and (path[-1], name) in _SOUND):
                    continue
                self.walk(inner, (*path, name), free or name in ("properties", "metadata"))
        elif isinstance(value, list):
            for place, inner in enumerate(value):
                self.walk(inner, (*path, place), free)
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= _LONG_NUMBER:
            self.add(path, str(int(value)))

    def within(self, *prefix: Any) -> list[int]:
        """Numbers of the texts whose path begins so; None stands for any step."""
        return [
            number
            for number, path in enumerate(self.paths)
            if len(path) >= len(prefix) and all(want is None or want == step for want, step in zip(prefix, path, strict=False))
        ]


def _json_in(text: str) -> Any:
    """The object or array that `text` is, as tool-call arguments are; None where it is none, or one that readers could read differently."""
    if not text.lstrip(" \t\r\n").startswith(("{", "[")) or not text.rstrip().endswith(("}", "]")):
        return None
    try:
        found = parse(text.encode())
    except (InvalidParameter, UnicodeEncodeError):
        return None
    return found if isinstance(found, dict | list) and found else None


def texts_of_request(body: dict[str, Any]) -> BodyTexts:
    """Every text of a request's body that a model, a provider or a reader of the tables could see."""
    found = _Gathering()
    found.walk(body, ())
    messages = body.get("messages")
    orders = [list(range(len(found.texts)))]
    if isinstance(messages, list):
        # What a model reads as one conversation, and what one side of it says, whatever names and calls stand in between.
        contents = found.within("messages", None, "content")
        orders.append(contents)
        roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
        orders += [[n for n in contents if roles[found.paths[n][1]] == role] for role in dict.fromkeys(roles)]
    return _made(found, orders, body)


def texts_of_answer(body: dict[str, Any]) -> BodyTexts:
    """Every text of an answer: all choices, with tool-call arguments, refusals and reasoning, and whatever else a provider adds."""
    found = _Gathering(_NO_TEXT)
    for name, value in body.items():
        if name not in _ANSWER_STEERING | _NO_TEXT | _STEERING:
            found.walk(value, (name,))
    choices = body.get("choices")
    orders = [found.within("choices", place) for place in range(len(choices))] if isinstance(choices, list) else []
    orders.append([number for number, path in enumerate(found.paths) if path[0] != "choices"])
    return _made(found, orders, body)


def _made(found: _Gathering, orders: list[list[int]], body: dict[str, Any]) -> BodyTexts:
    sequences = tuple(dict.fromkeys(tuple(order) for order in orders if len(order) > 1))
    return BodyTexts(tuple(found.texts), sequences, tuple(found.paths), body)
