"""`python -m tests.bench.guardrails`: how well the guardrails find what they are for, and what they cost; one table, n beside each figure.

    pii, safety    tests/bench/pii_scores.py and tests/bench/safety_scores.py, on labelled texts and on made-up values
    splits         values cut at every position over two messages and two pieces of a stream
    where          the same values in a tool-call argument, a system prompt, a name, a second content part
    time           all three on one text
    throughput     the running gateway with guardrails and without, the same stack, in turn

Exit status 1 where a part could not be measured. Figures that fall short of their bound are marked, and change no status.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from pipeline.core.guardrails import compile_rules, driven, examine
from pipeline.core.pii import MASK, detect, mask
from pipeline.core.pii.streams import PiiStream
from pipeline.core.texts import texts_of_request
from pipeline.endpoints import GuardrailParameters
from tests.bench import pii_scores, safety_scores, targets
from tests.bench.figures import Row, show
from tests.bench.load import OWN, Plan, run_apart
from tests.bench.pii_samples import ENTITIES, valid
from tests.bench.pii_scores import MissingData
from tests.bench.process import NotReady

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
KEYWORDS = [f"codename {number}" if number % 3 else f"project{number}" for number in range(10_000)]
ALL_ON: dict[str, Any] = {"invalid_keywords": KEYWORDS, "pii": {"behavior": "MASK"}, "safety": True}
CLIENTS = 32
WARM_UP_S = 8.0


def times(size: int, rounds: int = 60) -> Row:
    """Median time that all three take on a request whose one message has `size` characters."""
    rules = compile_rules(GuardrailParameters.model_validate(ALL_ON))
    taken = []
    for number in range(rounds):
        # Never the same text twice.
        text = f"{number} " + (PROSE * (size // len(PROSE) + 1))[:size]
        body = {"messages": [{"role": "user", "content": text}]}
        started_s = time.perf_counter()
        driven(examine(rules, body, "input", time.perf_counter))
        taken.append((time.perf_counter() - started_s) * 1000)
    bound_ms = 2.0 if size <= 1_000 else 12.0
    return Row(f"keywords (10,000), PII and safety together, {size // 1_000} KB", median(taken), "ms", rounds, bound_ms, at_least=False)


# Ordinary text of our own, with some digits in it.
PROSE = (
    "The lock was rebuilt in 1987 and takes boats up to 38 metres. On an ordinary day some 140 pass, most of them between nine and "
    "four, and each needs about 12 minutes. Our order 4471 for new gates went out in March; the invoice of 2,350 euros is due within "
    "30 days. Please tell the crew that version 2.4 of the timetable is out and that page 17 has changed. "
)


def _in_argument(text: str) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": json.dumps({"to": {"whom": [text]}})}}
    return {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": None, "tool_calls": [call]}]}


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "plain text": lambda text: {"messages": [{"role": "user", "content": text}]},
    "a tool-call argument": _in_argument,
    "a system prompt": lambda text: {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "hello"}]},
    "a name field": lambda text: {"messages": [{"role": "user", "name": text, "content": "hello"}]},
    "a second content part": lambda text: {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello "}, {"type": "text", "text": text}]}]
    },
}


def where(path: Path) -> Iterator[Row]:
    """Of the labelled texts and the made-up ones in which the default set finds something, in how many it does at each place of a body."""
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts += [sample.text for entity in ENTITIES for sample in valid(entity, 250)]
    counts = {}
    for place, body_of in PLACES.items():
        bodies = [texts_of_request(body_of(text)) for text in texts]
        counts[place] = sum(bool(detect(body.texts, sequences=body.sequences)) for body in bodies)
        goal = counts["plain text"] if place != "plain text" else None
        yield Row(f"texts with PII found, in {place}", counts[place], "found", len(texts), goal)


def splits(path: Path) -> Iterator[Row]:
    """Values cut at every position, over two messages and over two pieces of a stream; and what is none, cut likewise."""
    values = {name: values for name, values in json.loads(path.read_text(encoding="utf-8")).items() if name != "what"}
    cuts = {
        real: [(value[:place], value[place:]) for name in values if (name != "not_pii") is real for value in values[name]
               for place in range(1, len(value))]
        for real in (True, False)
    }  # fmt: skip

    def of_messages(head: str, tail: str) -> str:
        messages = [{"role": "user", "content": f"I was told {head}"}, {"role": "user", "content": f"{tail} by phone"}]
        body = texts_of_request({"messages": messages})
        masked = mask(body.texts, detect(body.texts, sequences=body.sequences))
        return masked[0].removeprefix("I was told ") + masked[1].removesuffix(" by phone")

    def of_stream(head: str, tail: str) -> str:
        stream = PiiStream("MASK")
        return stream.feed(f"I was told {head}") + stream.feed(f"{tail} by phone") + stream.finish()

    for what, masked_of in (("two messages", of_messages), ("two pieces of a stream", of_stream)):
        caught = sum(MASK in (masked := masked_of(head, tail)) and head + tail not in masked for head, tail in cuts[True])
        wrong = sum(MASK in masked_of(head, tail) for head, tail in cuts[False])
        yield Row(f"values cut at every position over {what}", caught, "found", len(cuts[True]), len(cuts[True]))
        yield Row(f"what is no personal data, cut likewise over {what}", wrong, "found", len(cuts[False]), 0, at_least=False)


def throughput(rounds: int, seconds: float, workers: int) -> Iterator[Row]:
    """Requests a second and p99 with all guardrails on in both directions, against the same stack's endpoint without any."""
    pairs = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))
        upstream_url = stack.enter_context(targets.upstream(folder))
        door = stack.enter_context(targets.sluice(upstream_url, folder, tables=False, workers=workers))
        guarded = targets.endpoint(upstream_url)
        guarded["name"] = "guarded"
        guarded["ai_gateway"] |= {"guardrails": {"input": ALL_ON, "output": ALL_ON}}
        guarded["ai_gateway"]["inference_table_config"] |= {"table_name_prefix": "guarded"}
        targets.create(door, guarded)
        for number in range(rounds):
            order = random.Random(number).sample(["bench", "guarded"], 2)
            found = {}
            for name in order:
                print(f"round {number + 1}/{rounds}: {name}", file=sys.stderr, flush=True)
                body = targets.BODY | {"model": name, "messages": [{"role": "user", "content": f"{OWN}: {targets.PROMPT}"}]}
                found[name] = run_apart(Plan(door.url, door.headers, body, CLIENTS, seconds, WARM_UP_S))
                if found[name]["other"] or not found[name]["ok"]:
                    raise NotReady(f"'{name}' answered with {found[name]['other'] or 'nothing'}")
            pairs.append(found)
    n = sum(found[name]["ok"] for found in pairs for name in found)
    for field, what, unit, goal in (("requests_per_s", "throughput", "requests/s", 0.75), ("p99_ms", "p99", "ms", 1.5)):
        on, off = (median(found[name][field] for found in pairs) for name in ("guarded", "bench"))
        ratio = median(found["guarded"][field] / found["bench"][field] for found in pairs)
        name = f"{what}, all three in both directions, {CLIENTS} clients, workers: {workers}"
        yield Row(name, ratio, "x none", n, goal, goal < 1, f"{on:,.0f} against {off:,.0f} {unit}")


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guardrails", description="The guardrails: how well and how fast.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled texts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement of throughput takes")
    parser.add_argument("--only", choices=["pii", "safety", "splits", "where", "time", "throughput"], action="append")
    args = parser.parse_args()
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "pii": lambda: pii_scores.rows(args.data / "pii-dev.jsonl"),
        "safety": lambda: safety_scores.rows(args.data / "moderation-dev.jsonl"),
        "splits": lambda: splits(args.data / "pii-entities.json"),
        "where": lambda: where(args.data / "pii-dev.jsonl"),
        "time": lambda: map(times, (1_000, 10_000)),
        "throughput": lambda: (row for workers in (1, 2) for row in throughput(args.rounds, args.seconds, workers)),
    }
    sections = []
    status = 0
    for name, part in parts.items():
        if args.only and name not in args.only:
            continue
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        try:
            sections.append(list(part()))
        except (OSError, NotReady, MissingData, httpx.HTTPError) as exc:
            print(f"bench: {name} could not be measured: {exc}", file=sys.stderr)
            status = 1
    show(sections)
    return status


if __name__ == "__main__":
    sys.exit(main())
