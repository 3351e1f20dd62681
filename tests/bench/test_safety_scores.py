"""The measure of the safety engine, on texts of which the right result is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.safety_scores import average_precision, load, measure, median_ms, rows

TEXTS = [
    {"prompt": "All jews are vermin, gas the jews.", "H": 1, "S": 0},
    {"prompt": "I love the quiet of the harbour.", "H": 1},
    {"prompt": "The harbour is quiet today.", "H": 0, "SH": 0},
    {"prompt": "Nothing is known of this sentence."},
]


def test_average_precision_is_what_it_is_defined_to_be() -> None:
    assert average_precision([0.9, 0.8, 0.1], [True, True, False]) == 1.0
    assert average_precision([0.9, 0.8, 0.7, 0.6], [True, False, True, False]) == pytest.approx((1 + 2 / 3) / 2)
    # Texts of one score have no order of their own.
    assert average_precision([0.5, 0.5, 0.5, 0.5], [True, False, False, False]) == 0.25
    assert average_precision([0.5], [False]) == 0.0


def test_precision_and_recall_count_what_is_flagged(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, TEXTS)))
    texts = load(path)
    assert [one.unsafe for one in texts] == [True, True, False, False]
    scores = measure(texts)
    assert (scores.n, scores.unsafe, scores.precision, scores.recall) == (4, 2, 1.0, 0.5)
    assert scores.recall_by_label == {"H": (2, 0.5)}
    assert [(row.value, row.n) for row in rows(path) if row.what == "recall, hate"] == [(0.5, 2)]


def test_a_set_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give the path"):
        load(tmp_path / "missing.jsonl")


def test_the_time_is_a_median_in_milliseconds() -> None:
    assert 0 < median_ms(1_000, rounds=3) < 100
