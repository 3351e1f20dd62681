"""How well the embedded safety engine tells unsafe from harmless, and how fast: `python -m tests.bench.safety_scores [PATH]`.

PATH is a file of texts with labels, a JSON object a line: `prompt`, and for each category 1 (it is), 0 (it isn't) or nothing (unknown). A
text is unsafe where any label is 1. The set is OpenAI's published one or a part of it; it is no part of this repository, and nothing in the
engine is learnt from it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

from pipeline.core.safety import THRESHOLD, SafetyVerdict, judge
from tests.bench.figures import Row, show

DEFAULT_PATH = Path(__file__).parents[2] / ".." / "shared" / "data" / "moderation-dev.jsonl"
LABELS = {
    "S": "sexual", "H": "hate", "V": "violence", "HR": "harassment", "SH": "self-harm", "S3": "sexual/minors", "H2": "hate/threatening",
    "V2": "violence/graphic",
}  # fmt: skip
# Ordinary text of my own; repeated to the size wanted.
_PLAIN = (
    "The lock keeper opened the gates at seven and wrote the level of the river into his book. Two barges with gravel waited below, and "
    "a family with a rented boat asked how long the passage would take. He explained the traffic lights, took their rope, and told them "
    "where bread could be bought on a Sunday. By noon the water had risen four centimetres, which nobody but him would notice. "
)


@dataclass(frozen=True)
class Labelled:
    """A text of the set."""

    text: str
    labels: dict[str, int]

    @property
    def unsafe(self) -> bool:
        """Is any label 1."""
        return any(self.labels.values())


@dataclass(frozen=True)
class Scores:
    """What came out. `recall_by_label`: for each label how many texts have it, and the share of them that is flagged."""

    n: int
    unsafe: int
    flagged: int
    average_precision: float
    precision: float
    recall: float
    recall_by_label: dict[str, tuple[int, float]]


def load(path: Path = DEFAULT_PATH) -> list[Labelled]:
    """The texts of the set at `path`; FileNotFoundError that says what is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"the labelled texts are not at {path.resolve()}; give the path of a moderation set as the argument")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Labelled(row["prompt"], {label: int(row[label]) for label in LABELS if row.get(label) is not None}) for row in rows]


def average_precision(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """The mean of the precision at each unsafe text, from the highest score down; texts of one score count together."""
    ranked = sorted(zip(scores, truth, strict=True), key=lambda one: -one[0])
    total, found, seen = 0.0, 0, 0
    for _, group in groupby(ranked, key=lambda one: one[0]):
        tied = [unsafe for _, unsafe in group]
        seen += len(tied)
        found += sum(tied)
        total += sum(tied) * found / seen
    return total / found if found else 0.0


def measure(texts: Sequence[Labelled]) -> Scores:
    """Judge all of `texts` at the shipped threshold."""
    verdicts = [judge(one.text) for one in texts]
    return _scores(texts, verdicts)


def _scores(texts: Sequence[Labelled], verdicts: Sequence[SafetyVerdict]) -> Scores:
    truth = [one.unsafe for one in texts]
    flagged = [verdict.flagged for verdict in verdicts]
    right = sum(unsafe and flag for unsafe, flag in zip(truth, flagged, strict=True))
    by_label = {}
    for label in LABELS:
        having = [flag for one, flag in zip(texts, flagged, strict=True) if one.labels.get(label) == 1]
        if having:
            by_label[label] = (len(having), sum(having) / len(having))
    return Scores(
        n=len(texts),
        unsafe=sum(truth),
        flagged=sum(flagged),
        average_precision=average_precision([verdict.score for verdict in verdicts], truth),
        precision=right / max(1, sum(flagged)),
        recall=right / max(1, sum(truth)),
        recall_by_label=by_label,
    )


def median_ms(size: int, rounds: int = 50) -> float:
    """Milliseconds for an ordinary text of `size` characters, median of `rounds`."""
    text = (_PLAIN * (size // len(_PLAIN) + 1))[:size]
    judge(text)
    times = []
    for number in range(rounds):
        started = time.perf_counter()
        # Never the same text twice.
        judge(f"{number} {text}")
        times.append((time.perf_counter() - started) * 1_000)
    return median(times)


def rows(path: Path = DEFAULT_PATH) -> list[Row]:
    """All figures. FileNotFoundError where there are no labelled texts."""
    scores = measure(load(path))
    return [
        Row("average precision, unsafe in any category", scores.average_precision, "", scores.n, 0.80),
        Row(f"precision at the threshold of {THRESHOLD}", scores.precision, "", scores.flagged, 0.80),
        Row(f"recall at the threshold of {THRESHOLD}", scores.recall, "", scores.unsafe),
        *(Row(f"recall, {LABELS[label]}", share, "", n) for label, (n, share) in scores.recall_by_label.items()),
        *(Row(f"embedded safety, {size // 1_000} KB", median_ms(size), "ms", 50, goal, at_least=False)
          for size, goal in ((1_000, 1.0), (10_000, None))),
    ]  # fmt: skip


def main() -> int:
    """Print the figures; the exit status."""
    try:
        show([rows(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PATH)])
    except FileNotFoundError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
