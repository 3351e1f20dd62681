"""The matrix names what there is: all thirty faults, and runs and tests that exist."""

from __future__ import annotations

from pathlib import Path

from tests.faults import matrix
from tests.faults.matrix import MATRIX
from tests.faults.troubles import TROUBLES

ROOT = Path(__file__).parents[2]


def test_all_thirty_faults_are_there_and_each_is_tried_or_says_why_not() -> None:
    assert [row.number for row in MATRIX] == list(range(1, 31))
    assert all(row.runs or row.tests or row.says for row in MATRIX)


def test_what_it_names_exists() -> None:
    assert {run for row in MATRIX for run in row.runs.split()} <= set(TROUBLES)
    assert [test for test in matrix.tests() if not (ROOT / test).exists()] == []


def test_every_trouble_is_in_it() -> None:
    assert set(TROUBLES) == {run for row in MATRIX for run in row.runs.split()}
