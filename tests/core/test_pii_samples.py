"""What is rare in texts at hand is made: valid values in many sentences are found, near misses are not. See tests/bench/pii_samples.py."""

import pytest

from pipeline.core.pii import detect
from tests.bench.pii_samples import ENTITIES, near_misses, valid

COUNT = 500
RECALL, FALSE = 0.98, 0.02


@pytest.mark.parametrize("entity", ENTITIES)
def test_valid_values_are_found(entity):
    samples = valid(entity, COUNT)
    missed = [s.text for s in samples if not any(f.entity == entity and f.start < s.end and s.start < f.end for f in detect([s.text]))]
    assert len(missed) <= (1 - RECALL) * COUNT, missed


@pytest.mark.parametrize("entity", ENTITIES)
def test_near_misses_are_not(entity):
    found = [(text, spans) for text in near_misses(entity, COUNT) if (spans := detect([text]))]
    assert len(found) <= FALSE * COUNT, found


def test_samples_are_the_same_each_time_and_hold_what_they_say():
    for entity in ENTITIES:
        assert valid(entity, 20) == valid(entity, 20)
        assert near_misses(entity, 20) == near_misses(entity, 20)
        assert len({sample.text for sample in valid(entity, COUNT)}) > 0.9 * COUNT
        for sample in valid(entity, 50):
            assert any(c.isdigit() for c in sample.text[sample.start : sample.end])
