"""Sentences of my own making for the safety engine's tests, from the templates in safety_texts/: unsafe by category, harmless,
and harmless prompts that look like harm to a list of words.

A template's {a|b} takes one of its choices, <name> one of the list of that name in lists.txt. Seeded, so a failure can be made again.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "safety_texts"
HARMLESS, PROMPT = "harmless", "prompt"
_CHOICE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"<(\w+)>")


@cache
def _lists() -> dict[str, list[str]]:
    lines = (FOLDER / "lists.txt").read_text(encoding="utf-8").splitlines()
    return {name: rest.split("|") for name, _, rest in (line.partition(": ") for line in lines if line and not line.startswith("#"))}


@cache
def templates() -> dict[str, list[str]]:
    """Templates by category; HARMLESS and PROMPT are two of them, and none."""
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("*.txt")):
        category = ""
        for line in path.read_text(encoding="utf-8").splitlines() if path.name != "lists.txt" else ():
            if line.startswith("# "):
                category = line[2:]
            elif line:
                found.setdefault(category, []).append(line)
    return found


def sentences(category: str, each: int, seed: int = 1) -> list[str]:
    """`each` sentences of every template of `category`."""
    draw = random.Random(f"{category}{seed}")
    return [_filled(template, draw) for template in templates()[category] for _ in range(each)]


def _filled(template: str, draw: random.Random) -> str:
    text, before = template, ""
    while text != before:
        before = text
        text = _CHOICE.sub(lambda m: draw.choice(m[1].split("|")), text)
        text = _NAME.sub(lambda m: draw.choice(_lists()[m[1]]) if m[1] in _lists() else m[0], text)
    return text
