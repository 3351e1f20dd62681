"""`python -m tests.bench.pii_scores [FILE]`: how well personal data is found, and in what time, beside Presidio as it comes.

FILE is a set of labelled texts, a JSON object a line: `text`, and `spans` with `type`, `start`, `end` (Presidio's synthetic set has this
form); by default ../shared/data/pii-dev.jsonl beside the repository. Nothing of it is kept here.

The scorer, the same for both sides: a labelled span is found where a finding of its type overlaps it, a finding is right where it
overlaps a label of its type. Types are made comparable by SAME_AS; findings of types that the set doesn't label count for nothing.
F2 is that of the sums over all types, recall weighing twice. Presidio is AnalyzerEngine with its default recognizers and the same spaCy
model, measured twice: with organisations, and without, as its own configuration ships. The ratio is to the better of the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

from pipeline.core.pii import DEFAULT_ENTITIES, DEFAULT_THRESHOLD, detect, resolved
from pipeline.core.pii_entities import ALL_ENTITIES
from pipeline.ner import find
from pipeline.ner.engine import MODEL
from tests.bench.figures import Row, show
from tests.bench.pii_samples import ENTITIES, near_misses, valid

DATA = Path(__file__).parents[3] / "shared" / "data" / "pii-dev.jsonl"
SAME_AS = {"GPE": "LOCATION", "STREET_ADDRESS": "LOCATION", "ZIP_CODE": "LOCATION", "DOMAIN_NAME": "URL", "AGE": "DATE_TIME"}
SAMPLES = 500
SIZES = (1024, 10_240)
ROUNDS = 15
PROSE = (
    "Thank you for writing to us about the order that you placed on 12 March. We have asked the warehouse, and both parcels left on Monday "
    "at 14:30 with the usual carrier. Should they not arrive within 5 working days, please answer this message or call 617-555-0142, and "
    "we will refund the full amount of 149.90 EUR. The address was changed last week, so the second parcel may take somewhat longer than "
    "the first. With version 2.4.1 of the app both of them can be followed; write to alice@example.com where that does not work. "
)

Span = tuple[int, int, str]


class Labelled(NamedTuple):
    text: str
    spans: list[Span]


class MissingData(Exception):
    """The labelled texts are not there."""


def labelled(path: Path = DATA) -> list[Labelled]:
    """The texts of `path` with their labels. Raises MissingData where there is no such file."""
    if not path.exists():
        raise MissingData(f"{path} is not there: give the path of a set of labelled texts, one JSON object a line")
    made = []
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        made.append(Labelled(entry["text"], [(s["start"], s["end"], s["type"]) for s in entry["spans"]]))
    return made


def default_tier(texts: Sequence[Labelled]) -> list[Row]:
    """Recall of each type of the default set that the texts label, and how many of the texts with a finding have a label too."""
    asked, hit = Counter[str](), Counter[str]()
    with_finding = right = 0
    for text, spans in texts:
        found = [(s.start, s.end, s.entity) for s in detect([text])]
        labels = [span for span in spans if span[2] in DEFAULT_ENTITIES]
        with_finding += bool(found)
        right += bool(found and labels)
        for label in labels:
            asked[label[2]] += 1
            hit[label[2]] += any(map(_same(label), found))
    rows = [Row(f"recall {name}", hit[name] / n, "", n, 0.90 if name == "PHONE_NUMBER" else 0.99) for name, n in sorted(asked.items())]
    return [*rows, Row("precision of documents, default set", right / max(with_finding, 1), "", with_finding, 0.95)]


def samples() -> list[Row]:
    """Recall of made-up values, and how many near misses are taken for personal data, by type."""
    rows = []
    for entity in ENTITIES:
        hit = 0
        for sample in valid(entity, SAMPLES):
            same = _same((sample.start, sample.end, entity))
            hit += any(same((s.start, s.end, s.entity)) for s in detect([sample.text]))
        false = sum(bool(detect([text])) for text in near_misses(entity, SAMPLES))
        name = f"{entity} (IPv6)" if entity == "IP_ADDRESS" else entity
        rows.append(Row(f"recall {name}, made up", hit / SAMPLES, "", SAMPLES, 0.98))
        rows.append(Row(f"near misses found, {name}", false / SAMPLES, "", SAMPLES, 0.02, at_least=False))
    return rows


def all_entities(texts: Sequence[Labelled]) -> list[Row]:
    """F2 over all types of ours (both tiers) and of Presidio, and the ratio."""
    presidio_ = presidio()
    ours, theirs = [], []
    for text, _ in texts:
        spans = resolved([*detect([text]), *find([text], ALL_ENTITIES, DEFAULT_THRESHOLD)])
        ours.append([(s.start, s.end, s.entity) for s in spans])
        theirs.append([(r.start, r.end, r.entity_type) for r in presidio_.analyze(text, "en")])
    labels = [spans for _, spans in texts]
    without = [[span for span in found if span[2] != "ORGANIZATION"] for found in theirs]
    n = sum(map(len, labels))
    our, their, their_without = (f_score(labels, found) for found in (ours, theirs, without))
    rows = [
        Row("F2 all types, ours", our[2], "", n), Row("precision all types, ours", our[0], "", n),
        Row("recall all types, ours", our[1], "", n),
        Row("F2 all types, Presidio", their[2], "", n), Row("F2 all types, Presidio without organisations", their_without[2], "", n),
    ]  # fmt: skip
    return [*rows, Row("F2 ours / Presidio's better", our[2] / max(their[2], their_without[2]), "x", n, 1.25)]


def f_score(labels: Sequence[list[Span]], findings: Sequence[list[Span]], beta: float = 2.0) -> tuple[float, float, float]:
    """Precision, recall and F of `findings`, text by text, against `labels`."""
    comparable = {SAME_AS.get(name, name) for spans in labels for _, _, name in spans}
    hit = missed = right = wrong = 0
    for expected, found in zip(labels, findings, strict=True):
        expected, found = _comparable(expected), [span for span in _comparable(found) if span[2] in comparable]
        hits = sum(any(map(_same(label), found)) for label in expected)
        rights = sum(any(map(_same(span), expected)) for span in found)
        hit, missed, right, wrong = hit + hits, missed + len(expected) - hits, right + rights, wrong + len(found) - rights
    precision, recall = right / max(right + wrong, 1), hit / max(hit + missed, 1)
    return precision, recall, (1 + beta**2) * precision * recall / max(beta**2 * precision + recall, 1e-9)


def _comparable(spans: Iterable[Span]) -> list[Span]:
    return [(start, end, SAME_AS.get(name, name)) for start, end, name in spans]


def _same(span: Span) -> Callable[[Span], bool]:
    return lambda other: other[2] == span[2] and other[0] < span[1] and span[0] < other[1]


@lru_cache(maxsize=1)
def presidio() -> AnalyzerEngine:
    """Presidio as it comes, but for the model's name, and for its list of domains, which it would otherwise fetch."""
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
    engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
    return AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])


def times() -> list[Row]:
    """Median milliseconds of the default tier and of Presidio on the same prose, taken in turns, and the ratio."""
    rows = []
    for size in SIZES:
        prose = (PROSE * (size // len(PROSE) + 1))[:size]
        ours, theirs = [], []
        for number in range(ROUNDS):
            text = f"{number} {prose}"  # Never the same text twice.
            ours.append(_ms(lambda text=text: detect([text])))
            theirs.append(_ms(lambda text=text: presidio().analyze(text, "en")))
        our, their = statistics.median(ours), statistics.median(theirs)
        bound = 0.5 if size == 1024 else 4.0
        rows.append(Row(f"default tier, {size // 1024} KB", our, "ms", ROUNDS, bound, at_least=False))
        rows.append(Row(f"Presidio, {size // 1024} KB", their, "ms", ROUNDS))
        rows.append(Row(f"default tier / Presidio, {size // 1024} KB", our / their, "x", ROUNDS, 0.1, at_least=False))
    return rows


def _ms(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def rows(path: Path = DATA) -> list[Row]:
    """All figures. Raises MissingData where there are no labelled texts."""
    texts = labelled(path)
    presidio().analyze(PROSE, "en")
    find([PROSE], None, DEFAULT_THRESHOLD)
    return [*default_tier(texts), *samples(), *all_entities(texts), *times()]


def main() -> int:
    """Print the figures; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=DATA, help="labelled texts, one JSON object a line")
    arguments = parser.parse_args()
    try:
        measured = rows(arguments.file)
    except MissingData as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    show([measured])
    return 0 if all(row.good for row in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
