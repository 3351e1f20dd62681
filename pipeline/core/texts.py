"""All text of a request or an answer in OpenAI's shape, wherever it stands: what guardrails look at, what is masked and what is counted.

    texts = texts_of_request(body)               what guardrails look at: every text, and in which orders they are read
    body = texts.replaced(masked)                a copy of the body with other texts in their places
    said_by_user(body)                           what topics are judged by
    request_texts(body), answer_texts(body)      what counts as characters of a request or an answer

Looked at is everything but what only steers the protocol: messages (content, parts, names, tool calls and their results, refusals,
reasoning), tool definitions, prompts, embeddings' inputs, fields that the gateway doesn't know, every choice of an answer, and names that
are no field's. What steers is known by its place and its form both: a role is one word under a message, an id one word under `id`, a
picture base64 under `image_url`; with another form or at another place, it is a text.

Text that is JSON itself, as tool-call arguments are, is taken apart: its strings, its names and its numbers are texts. Of its numbers,
fractions below a million are not looked at, nor are small whole numbers in a list of more than 64 items or beyond the first 2,048 of a
body: those are data, and would cost more than all else. A masked JSON text keeps everything but the masked tokens as it was written.

Pure; never fails, whatever the JSON; linear in the size of the body, which itself is never changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.core.replacing import JSON, Key, Spelled, applied, without_logprobs
from pipeline.errors import InvalidParameter
from pipeline.json_text import parse

# What does not count as a request's or an answer's text.
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
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            todo += reversed([inner for name, inner in value.items() if name not in _STRUCTURAL])
        elif isinstance(value, list):
            todo += reversed(value)


def characters(texts: Iterator[str]) -> int:
    """How many characters of text there are."""
    return sum(map(len, texts))


# Fields of a body with objects of the API's making in them: only below these does anything steer.
_FIELDS = frozenset({"messages", "prompt", "input", "system", "tools", "tool_choice", "functions", "function_call", "response_format",
                     "text", "reasoning", "thinking", "prediction", "stream_options", "web_search_options", "choices", "data"})  # fmt: skip
_TOP = frozenset({""})
# One word under these names steers, where a keyword such as "user" or "text" would be found everywhere; within which object it does
# (the name of the object or of the list of it, "" is the body itself; empty: any).
_STEERING: dict[str, frozenset[str]] = {
    "type": frozenset(), "object": frozenset(), "role": frozenset({"messages", "message", "delta", "input"}),
    "finish_reason": frozenset({"choices"}), "native_finish_reason": frozenset({"choices"}),
    "detail": frozenset({"image_url", "content"}), "effort": frozenset({"reasoning"}), "verbosity": frozenset({"", "text"}),
    "tool_choice": _TOP, "reasoning_effort": _TOP, "encoding_format": _TOP, "truncation": _TOP, "service_tier": _TOP, "function_call": _TOP,
}  # fmt: skip
# No number that says something: at most six digits, at most three in a row, no dot behind one.
_WORD = re.compile(r"(?!(?:[^0-9]*[0-9]){7})[A-Za-z](?:[A-Za-z_.:/-]|[0-9]{1,3}(?![0-9.])){0,63}")
_MODEL = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
# Masked, two of these would become the same, and a tool's result would belong to another call.
_IDS = frozenset({"id", "call_id", "tool_call_id", "tool_use_id", "item_id", "response_id", "previous_response_id", "file_id"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# A name of this form is a field's name.
_NAME = re.compile(r"(?!(?:[^0-9]*[0-9]){7})[a-z0-9_]{1,40}")
# Those that stand in every body, without the search.
_USUAL_NAMES = frozenset(
    {"messages", "role", "content", "max_tokens", "temperature", "id", "object", "created", "choices", "index", "message", "logprobs",
     "finish_reason", "usage", "prompt_tokens", "completion_tokens", "total_tokens", "model"}
)  # fmt: skip
_OTHER_NAMES = frozenset({"additionalProperties", "anyOf", "allOf", "oneOf", "$schema", "$defs", "$ref"})
# Pictures, sound and files, by the object's name and the field's; true: only as a data URL, since a web address may stand there too.
_MEDIA_PLACES = {
    ("image_url", "url"): True, ("content", "image_url"): True, ("video_url", "url"): True, ("audio_url", "url"): True,
    ("file", "file_data"): False, ("content", "file_data"): False, ("source", "data"): False, ("input_audio", "data"): False,
    ("audio", "data"): False,
}  # fmt: skip
_DATA_URL = re.compile(
    r"data:(?:(?:image|audio|video)/(?:[a-z.+-]|[0-9](?![0-9]{2})){1,40}|application/(?:pdf|octet-stream))(?:;charset=[a-z0-9-]{1,12})?;base64,",
    re.IGNORECASE,
)
# The shortest picture there is has some 35 bytes; what is shorter than that is a word.
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{48,}+={0,2}")
# A number with fewer digits is no personal data, but may be a part of it.
_LONG_NUMBER = 1_000_000
_LONG_LIST = 64
_MOST_SMALL_NUMBERS = 2_048
# Numbers in a row hold a value of this many digits: a telephone's to a card's, with signs.
_FEWEST_DIGITS, _MOST_DIGITS = 7, 40
_MOST_NUMBER_ORDERS = 256
# JSON deeper within JSON is text as it stands.
_MOST_DEPTH = 200
# Orders beyond so many roles or choices are put together: each costs a look at all findings.
_MOST_ROLES, _MOST_CHOICES = 16, 128
# Between tokens that don't follow each other: more than may stand within a number.
_APART = " \u241e\u241e\u241e\u241e "


# Where a value stands: in an object of the API's making, in a field nobody knows, among counts of tokens, or in an object of the
# caller's making, where names are texts and none of them steers.
_Where = Literal["api", "unknown", "counts", "free"]


@dataclass(frozen=True, slots=True)
class BodyTexts:
    """Every text of one body. `sequences`: by their numbers, the orders in which texts are read after each other.

    `parts`: those that are parts of one message, which a model reads as one text.
    """

    texts: tuple[str, ...]
    sequences: tuple[tuple[int, ...], ...]
    parts: tuple[tuple[int, ...], ...]
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
        changed: dict[str, Any] = applied(self._body, tree)
        places, choices = tree.get("choices"), changed.get("choices")
        if isinstance(places, dict) and isinstance(choices, dict | list):
            for place in places:
                if not isinstance(place, Key | Spelled) and isinstance(choices[place], dict):
                    choices[place] = without_logprobs(choices[place])
        return changed


class _Gathering:
    """Texts and where they stand, as they are come upon."""

    def __init__(self, is_answer: bool) -> None:
        self.is_answer = is_answer
        self.texts: list[str] = []
        self.paths: list[tuple[Any, ...]] = []
        self.orders: list[list[int]] = []  # Of each JSON text, its numbers.
        self.small: set[int] = set()  # Small numbers: in no other order, where they would only stand between two texts.

    def add(self, path: tuple[Any, ...], text: str, order: list[int] | None = None) -> None:
        if text:
            if order is not None:
                order.append(len(self.texts))
            self.paths.append(path)
            self.texts.append(text)

    def walk(self, body: dict[str, Any]) -> None:
        """Every text of `body`, in order."""
        # What is to be looked at: the value, its path, the name of the object that it is or is listed in, where it stands, and the
        # numbers of the JSON around it.
        todo: list[tuple[Any, tuple[Any, ...], str, _Where, list[int] | None]] = [(body, (), "", "api", None)]
        while todo:
            value, path, parent, where, order = todo.pop()
            if isinstance(value, str):
                if path and isinstance(path[-1], Key | Spelled):
                    self.add(path, value)
                    continue
                inner = _json_in(value) if len(path) < _MOST_DEPTH else None
                if inner is None:
                    self.add(path, value, order if value.isdecimal() else None)
                else:
                    if order is None:
                        self.orders.append(order := [])
                    todo.append((inner, (*path, JSON), "", "free", order))
            elif isinstance(value, dict):
                found = self._of_object(value, path, parent, where, order)
                found.reverse()
                todo += found
            elif isinstance(value, list):
                if len(value) > _LONG_LIST:
                    # Data: an embedding, token numbers.
                    items = [(n, v) for n, v in enumerate(value) if not isinstance(v, int | float) or abs(v) >= _LONG_NUMBER]
                else:
                    items = list(enumerate(value))
                todo += [(inner, (*path, place), parent, where, order) for place, inner in reversed(items)]
            elif isinstance(value, int | float) and not isinstance(value, bool) and where != "counts":
                self._add_number(value, path, order)

    def _of_object(
        self, value: dict[str, Any], path: tuple[Any, ...], parent: str, where: _Where, order: list[int] | None
    ) -> list[tuple[Any, tuple[Any, ...], str, _Where, list[int] | None]]:
        """What of an object is to be looked at."""
        found: list[tuple[Any, tuple[Any, ...], str, _Where, list[int] | None]] = []
        for name, inner in value.items():
            below, numbers = where, order
            if where == "free":
                found.append((name, (*path, Key(name)), "", where, None))
            else:
                if name not in _USUAL_NAMES and _NAME.fullmatch(name) is None and name not in _OTHER_NAMES:
                    found.append((name, (*path, Key(name)), "", where, None))
                if not path:
                    below = "api" if name in _FIELDS else "counts" if self.is_answer and name == "usage" else "unknown"
                if where == "api" and self._is_no_text(parent, name, inner):
                    continue
                if "logprobs" in name and isinstance(inner, dict | list):
                    found.append((_spelled(inner, self._said(value, path)), (*path, Spelled(name)), "", where, None))
                    continue
                if name in ("properties", "metadata"):
                    below = "free"
                    if name == "metadata":
                        self.orders.append(numbers := [])
            if inner is not None and inner is not True and inner is not False:
                found.append((inner, (*path, name), name, below, numbers))
        return found

    def _is_no_text(self, parent: str, name: str, value: Any) -> bool:
        """Is this a value that steers the protocol, or no text at all: by its place and by its form."""
        if isinstance(value, str):
            if name in _IDS:
                return _ID.fullmatch(value) is not None
            within = _STEERING.get(name)
            if within is not None:
                return (not within or parent in within) and _WORD.fullmatch(value) is not None
            if parent == "" and name in ("model", "system_fingerprint"):
                return _MODEL.fullmatch(value) is not None
            must_be_url = _MEDIA_PLACES.get((parent, name))
            if must_be_url is not None:
                url = _DATA_URL.match(value)
                return (url is not None or not must_be_url) and _BASE64.fullmatch(value, url.end() if url else 0) is not None
            return self.is_answer and name == "embedding" and parent == "data" and _BASE64.fullmatch(value) is not None
        if not self.is_answer:
            return False
        if name == "embedding" and parent == "data":
            return isinstance(value, list) and set(map(type, value)) <= {int, float}
        return name == "created" and parent == "" and isinstance(value, int | float)

    def _said(self, value: dict[str, Any], path: tuple[Any, ...]) -> list[str]:
        """The texts of the choice or of the message whose log probabilities stand in `value`: they are looked at on their own."""
        if not self.is_answer or len(path) not in (2, 3) or path[0] != "choices":
            return []
        message = value.get("message")
        given = [value.get("text"), *(of.get(name) for of in (value, message) if isinstance(of, dict) for name in ("content", "refusal"))]
        return [text for text in given if isinstance(text, str)]

    def _add_number(self, value: int | float, path: tuple[Any, ...], order: list[int] | None) -> None:
        if isinstance(value, float):
            whole = math.isfinite(value) and (abs(value) >= _LONG_NUMBER or value.is_integer())
        else:
            # Longer than any number that means something, and than what Python would write.
            whole = value.bit_length() <= 4_096
        if not whole:
            return
        if abs(value) < _LONG_NUMBER:
            if order is None or len(self.small) >= _MOST_SMALL_NUMBERS:
                return
            self.small.add(len(self.texts))
        self.add(path, str(int(value)), order)

    def number_orders(self) -> list[list[int]]:
        """The numbers of each JSON text, whatever names stand in between, and of each list in it, behind its name: as far as they may be
        the parts of one value."""
        found: list[list[int]] = []
        for order in self.orders:
            if len(order) < 2:
                continue
            by_list: dict[tuple[Any, ...], list[int]] = {}
            for number in order:
                path = self.paths[number]
                if isinstance(path[-1], int):
                    by_list.setdefault(path[:-1], []).append(number)
            for numbers in [order, *by_list.values()]:
                if len(numbers) > 1 and _FEWEST_DIGITS <= sum(len(self.texts[n]) for n in numbers) <= _MOST_DIGITS:
                    found.append(numbers)
            for above, numbers in by_list.items():
                name = numbers[0] - 1
                if above and name >= 0 and self.paths[name] == (*above[:-1], Key(above[-1])):
                    numbers.insert(0, name)
        return found[:_MOST_NUMBER_ORDERS]


def _spelled(logprobs: Any, said: list[str]) -> str:
    """What log probabilities spell: each list's tokens joined, as far as they are not in `said`; and every other text in there, apart."""
    chosen: list[list[str]] = []
    others: dict[str, None] = {}
    todo: list[tuple[Any, str, list[str] | None]] = []
    for name, value in logprobs.items() if isinstance(logprobs, dict) else [("tokens", logprobs)]:
        if _NAME.fullmatch(name) is None:
            others[name] = None
        chosen.append([])
        todo.append((value, name, None if "logprobs" in name else chosen[-1]))
    todo.reverse()
    while todo:
        value, name, tokens = todo.pop()
        if isinstance(value, str):
            if tokens is not None and name in ("token", "tokens"):
                tokens.append(value)
            else:
                others[value] = None
        elif isinstance(value, list):
            todo += [(inner, name, tokens) for inner in reversed(value) if isinstance(inner, str | list | dict)]
        elif isinstance(value, dict):
            # Completions name a token's rivals in an object.
            others.update((inner, None) for inner in value if inner not in ("token", "logprob", "bytes", "top_logprobs"))
            todo += [(inner, of, None if "logprobs" in of else tokens) for of, inner in reversed(value.items())]
    known = {token for tokens in chosen for token in tokens}
    joined = ["".join(tokens) for tokens in chosen]
    return _APART.join(
        [*(text for text in joined if text and not any(text in whole for whole in said)), *(o for o in others if o not in known)]
    )


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
    found = _Gathering(is_answer=False)
    found.walk(body)
    messages = body.get("messages")
    orders = [[number for number in range(len(found.texts)) if number not in found.small]]
    if isinstance(messages, list):
        # What a model reads as one conversation, and what one side of it says, whatever names and calls stand in between.
        contents: list[int] = []
        by_role: dict[str, list[int]] = {}
        for number, path in enumerate(found.paths):
            if len(path) > 2 and path[0] == "messages" and path[2] == "content" and number not in found.small:
                contents.append(number)
                role = messages[path[1]].get("role")
                if not isinstance(role, str) or (role not in by_role and len(by_role) >= _MOST_ROLES):
                    role = ""
                by_role.setdefault(role, []).append(number)
        orders += [contents, *by_role.values()]
    return _made(found, orders, body)


def texts_of_answer(body: dict[str, Any]) -> BodyTexts:
    """Every text of an answer: all choices, with tool-call arguments, refusals and reasoning, and whatever else a provider adds."""
    found = _Gathering(is_answer=True)
    found.walk(body)
    by_choice: dict[int, list[int]] = {}
    others: list[int] = []
    for number, path in enumerate(found.paths):
        if number in found.small:
            continue
        if len(path) > 1 and path[0] == "choices" and isinstance(path[1], int):
            by_choice.setdefault(min(path[1], _MOST_CHOICES), []).append(number)
        else:
            others.append(number)
    return _made(found, [*by_choice.values(), others], body)


def _made(found: _Gathering, orders: list[list[int]], body: dict[str, Any]) -> BodyTexts:
    sequences = tuple(dict.fromkeys(tuple(order) for order in orders + found.number_orders() if len(order) > 1))
    return BodyTexts(tuple(found.texts), sequences, _parts(found), tuple(found.paths), body)


def _parts(found: _Gathering) -> tuple[tuple[int, ...], ...]:
    """Of each message with several parts of text, their numbers."""
    by_message: dict[tuple[Any, ...], list[int]] = {}
    for number, path in enumerate(found.paths):
        if len(path) > 3 and path[-1] == "text" and path[-3] == "content":
            by_message.setdefault(path[:-2], []).append(number)
    return tuple(tuple(numbers) for numbers in by_message.values() if len(numbers) > 1)


# Whoever else writes a message is a user for the rules on what users may say.
_NOT_USERS = frozenset({"assistant", "system", "developer", "tool", "function"})


def said_by_user(body: dict[str, Any]) -> list[str]:
    """What the user says in a request, oldest first: the user's messages, else the prompts or inputs; a message's parts are joined."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        given = body.get("prompt", body.get("input"))
        return [text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str)]
    said = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if isinstance(message, dict) and not (isinstance(role, str) and role.lower() in _NOT_USERS):
            content = message.get("content")
            parts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else [content]
            said.append("\n".join(part for part in parts if isinstance(part, str)))
    return said
