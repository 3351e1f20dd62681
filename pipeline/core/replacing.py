"""Other texts put in the places of a body's texts, in a copy: what `BodyTexts.replaced` (texts.py) does.

A place is a path of steps: a name or a number as in the body, `JSON` for what a text holds, `Key` for a name itself, `Spelled` for log
probabilities. JSON within a text keeps everything but the replaced tokens as it was written. Pure; never fails for the paths that
texts.py makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.json_text import dump_text, parse

JSON = object()  # A step of a path: into the JSON that a text holds.


class Key(NamedTuple):
    """The last step of a path that leads to a name within an object, not to what it names."""

    name: str


class Spelled(NamedTuple):
    """The last step of a path to log probabilities, whose tokens are one text; where that changes, they go."""

    name: str


def applied(body: Any, tree: dict[Any, Any]) -> Any:
    """A copy of an object or a list with the changes of `tree`, which has their paths' steps as names."""
    made = body.copy()
    todo = [(made, tree)]
    while todo:
        copy, changes = todo.pop()
        for step, change in changes.items():
            if isinstance(step, Spelled):
                copy[step.name] = None
            elif isinstance(change, str):
                if not isinstance(step, Key):
                    copy[step] = change
            elif JSON in change:
                copy[step] = _spliced(copy[step], change[JSON])
            else:
                copy[step] = copy[step].copy()
                todo.append((copy[step], change))
        names = _renamed(copy, changes)
        if names:
            items = list(copy.items())
            copy.clear()
            copy.update((names.get(name, name), inner) for name, inner in items)
    return made


def _renamed(names: Iterable[Any], changes: dict[Any, Any]) -> dict[str, str]:
    """The new names of an object that has these; two that come to be the same get numbers, so that neither's value is lost."""
    changed = {step.name: new for step, new in changes.items() if isinstance(step, Key)}
    if not changed:
        return {}
    taken = {name: 2 for name in names if name not in changed}
    for old, new in changed.items():
        made = new
        while made in taken:
            made = f"{new} {taken[new]}"
            taken[new] += 1
        taken[made] = 2
        changed[old] = made
    return changed


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


class _Level(NamedTuple):
    """An object or a list that the scan of a JSON text is in."""

    value: Any
    changes: dict[Any, Any]
    names: dict[str, str]
    steps: Iterator[Any]
    is_object: bool


def _spliced(text: str, tree: dict[Any, Any]) -> str:
    """JSON `text` with the changes of `tree`; all other tokens, and what stands between them, stay as they are written."""
    pieces: list[str] = []
    done = 0
    levels: list[_Level] = []
    value: Any = parse(text.encode())
    change: Any = tree
    name_follows = False
    for token in _TOKEN.finditer(text):
        written = token.group()
        new = None
        if written in ("{", "["):
            changes = change if isinstance(change, dict) else {}
            inside = value if changes else ()
            is_object = name_follows = written == "{"
            steps = iter(inside if is_object else range(len(inside)))
            levels.append(_Level(inside, changes, _renamed(inside, changes) if is_object else {}, steps, is_object))
            value, change = (None, None) if is_object else _next(levels[-1])
        elif written in ("}", "]"):
            levels.pop()
            name_follows = False
        elif written == ",":
            name_follows = levels[-1].is_object
            value, change = (None, None) if name_follows else _next(levels[-1])
        elif written == ":":
            continue
        elif name_follows:
            name_follows = False
            step = next(levels[-1].steps, None)
            value, change = (None, None) if step is None else (levels[-1].value[step], levels[-1].changes.get(step))
            new = levels[-1].names.get(step) if step is not None else None
        elif isinstance(change, str):
            new = change
        elif change is not None:
            new = _spliced(value, change[JSON])
        if new is not None:
            pieces += (text[done : token.start()], dump_text(new))
            done = token.end()
    pieces.append(text[done:])
    return "".join(pieces)


def _next(level: _Level) -> tuple[Any, Any]:
    """The next item of a list, and its changes."""
    place = next(level.steps, None)
    return (None, None) if place is None else (level.value[place], level.changes.get(place))


def without_logprobs(choice: dict[str, Any]) -> dict[str, Any]:
    """A copy of `choice` in which all log probabilities are null, at any depth."""
    made = choice.copy()
    todo: list[Any] = [made]
    while todo:
        copy = todo.pop()
        for step, inner in list(copy.items()) if isinstance(copy, dict) else enumerate(copy):
            if isinstance(step, str) and "logprobs" in step:
                copy[step] = None
            elif isinstance(inner, dict | list):
                copy[step] = inner.copy()
                todo.append(copy[step])
    return made
