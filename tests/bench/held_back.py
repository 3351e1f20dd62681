"""`python -m tests.bench.held_back`: what guarded streams hold back, and for how long; one table, n beside each figure.

    leaks     every value of pii-entities.json in the middle of a sentence, cut at every position into pieces of 1 to 5 characters
    held      the most characters that waited at any time meanwhile
    release   STREAMS streams at once, PIECES_PER_S pieces a second each, on one event loop, driven as the worker drives them: from when
              a piece was due to when the held text that it settled was out

Exit status 1 where the values can't be read. Figures that fall short of their bound are marked, and change no status.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import uvloop

from pipeline.core.guarded_stream import StreamExamination
from pipeline.core.guardrails import Rules, compile_rules
from pipeline.core.pii import MASK, detect, mask
from pipeline.core.pii.streams import HOLD
from pipeline.endpoints import GuardrailParameters
from pipeline.ner import NerPool
from pipeline.worker.guard import Guards
from pipeline.worker.long_texts import LongTexts
from tests.bench.figures import Row, show
from tests.bench.guardrails import DATA, KEYWORDS, PROSE
from tests.bench.pii_samples import ENTITIES, valid

BEFORE, AFTER = "I was told that it is ", " and wrote it down, so that nobody has to ask again and all of us can go home."
STREAMS, PIECES_PER_S = 50, 50
PIECE = 5
RULES: dict[str, dict[str, Any]] = {
    "personal data": {"pii": {"behavior": "MASK"}},
    "personal data and 10,000 keywords": {"pii": {"behavior": "MASK"}, "invalid_keywords": KEYWORDS},
    "personal data, 10,000 keywords and safety": {"pii": {"behavior": "MASK"}, "invalid_keywords": KEYWORDS, "safety": True},
}


def rules_of(parameters: dict[str, Any]) -> Rules:
    """The rules that an endpoint's parameters come to."""
    return compile_rules(GuardrailParameters.model_validate(parameters))


def chunk_of(text: str) -> dict[str, Any]:
    """A provider's chunk with this text."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def text_in(chunks: list[dict[str, Any]]) -> str:
    """What chunks say."""
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


def new_guards() -> Guards:
    """As in a worker; no child process starts before it is needed."""
    return Guards(None, NerPool(children=1), LongTexts(), 10.0)


def cuts(text: str) -> Iterator[list[str]]:
    """`text` in pieces of 1 to 5 characters, so that each size is cut at every position."""
    for size in range(1, 6):
        for first in range(size):
            yield [piece for piece in (text[:first], *(text[at : at + size] for at in range(first, len(text), size))) if piece]


async def leaks(path: Path) -> list[Row]:
    """Values cut at every position: how many came through, and how much was held back at most."""
    values = [
        value for name, those in json.loads(path.read_text(encoding="utf-8")).items() if name not in ("what", "not_pii") for value in those
    ]
    guards = new_guards()
    count = {"MASK": 0, "BLOCK": 0}
    leaked = {"MASK": 0, "BLOCK": 0}
    most = 0
    for behavior in count:
        rules = rules_of({"pii": {"behavior": behavior}})
        for value in values:
            text = f"{BEFORE}{value}{AFTER}"
            spans = detect([text])
            # The label of a value ("account number") stays.
            before = text[: min((span.start for span in spans), default=0)]
            whole = mask([text], spans)[0]
            for pieces in cuts(text):
                out, held = await _streamed(guards, rules, pieces, len(text) - len(whole) + len(MASK))
                count[behavior] += 1
                if behavior == "MASK":
                    most = max(most, held)
                    leaked[behavior] += MASK not in whole or out != whole
                else:
                    leaked[behavior] += not before.startswith(out)
    return [
        *(
            Row(f"values that came through, {name}, in pieces of 1 to 5", leaked[name], "found", count[name], 0, at_least=False)
            for name in count
        ),
        Row("most characters held back meanwhile", most, "", count["MASK"], HOLD, at_least=False),
    ]


async def _streamed(guards: Guards, rules: Rules, pieces: list[str], size: int) -> tuple[str, int]:
    """What came out, and how many characters waited at most; a mask stands for `size` characters."""
    examination = StreamExamination(rules, time.perf_counter)
    out, fed, most = "", 0, 0
    for piece in pieces:
        out += text_in(await guards.drive(examination.feed(chunk_of(piece)), "output", _no_deadline))
        fed += len(piece)
        gone = len(out) + out.count(MASK) * (size - len(MASK))
        most = max(most, fed - gone) if examination.error is None else most
    out += text_in(await guards.drive(examination.finish(), "output", _no_deadline))
    return out, most


def _no_deadline() -> float:
    return 60.0


async def release(what: str, rules: Rules, seconds: float) -> list[Row]:
    """How long it takes from the arrival of the piece that settles held text until that text is out."""
    guards = new_guards()
    guards.prepare()
    size = int(seconds * PIECES_PER_S * PIECE)
    texts = [_text(number, size) for number in range(STREAMS)]
    # What is read or compiled at the first use.
    await _streamed(guards, rules, [BEFORE, AFTER], 0)
    took_ms: list[float] = []
    fed = 0

    async def one(number: int) -> None:
        nonlocal fed
        text = texts[number]
        examination = StreamExamination(rules, time.perf_counter)
        due_s = started_s + random.Random(number).random() / PIECES_PER_S
        waits = 0
        for at in range(0, len(text), PIECE):
            await asyncio.sleep(due_s - time.perf_counter())
            piece = text[at : at + PIECE]
            said = text_in(await guards.drive(examination.feed(chunk_of(piece)), "output", _no_deadline))
            fed += 1
            if waits and said:
                took_ms.append((time.perf_counter() - due_s) * 1000)
            # A mask settles all before it; what waits beside is only counted to tell whether anything does.
            waits = max(0, waits + len(piece) - len(said)) if MASK not in said else len(piece)
            due_s += 1 / PIECES_PER_S
        await guards.drive(examination.finish(), "output", _no_deadline)

    busy_s, started_s = time.process_time(), time.perf_counter() + 0.1
    await asyncio.gather(*map(one, range(STREAMS)))
    load = (time.process_time() - busy_s) / (time.perf_counter() - started_s)
    p99 = quantiles(took_ms, n=100)[98]
    remark = f"{STREAMS} x {PIECES_PER_S} pieces/s, {fed:,} pieces, {load:.0%} of a core"
    return [
        Row(f"settled to released, {what}, p50", median(took_ms), "ms", len(took_ms), 2.0, False, remark),
        Row(f"settled to released, {what}, p99", p99, "ms", len(took_ms), 20.0, False, f"longest {max(took_ms):.1f} ms"),
    ]


def _text(number: int, size: int) -> str:
    """Ordinary text with a value in every few sentences; a different one for each stream."""
    chance = random.Random(number)
    samples = [sample.text for entity in ENTITIES for sample in valid(entity, 20)]
    sentences = [f"{sentence}. " for sentence in PROSE.strip(". ").split(". ")]
    text = ""
    while len(text) < size:
        text += chance.choice(sentences) if chance.random() < 0.75 else f"{chance.choice(samples)} "
    return text[:size]


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.held_back", description="Guarded streams: what waits, and how long.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of pii-entities.json")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the streams of each measurement last")
    args = parser.parse_args()
    sections, status = [], 0
    try:
        sections.append(asyncio.run(leaks(args.data / "pii-entities.json")))
    except OSError as exc:
        print(f"bench: the values could not be read: {exc}", file=sys.stderr)
        status = 1
    for what, parameters in RULES.items():
        print(f"measuring: {what}", file=sys.stderr, flush=True)
        sections.append(uvloop.run(release(what, rules_of(parameters), args.seconds)))
    show(sections)
    return status


if __name__ == "__main__":
    sys.exit(main())
