"""Retention and erasure without Spark: which rule counts, what the settings refuse, who is known by which bytes, and the lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.erasing import signs
from jobs.name_lock import Busy, copying_names, erasing_names
from jobs.retention import Rule, days_of, rules
from pipeline.settings import Settings


def test_the_first_pattern_that_fits_counts_and_the_rest_is_kept_for_ever() -> None:
    read = rules("main.logs.secret_*=7,main.*=90,system.serving.endpoint_usage=400,*_assessment=1")
    assert read[0] == Rule("main.logs.secret_*", 7)
    assert days_of(("main", "logs", "secret_request_response"), read) == 7
    assert days_of(("main", "logs", "open_assessment"), read) == 90
    assert days_of(("other", "logs", "open_assessment"), read) == 1
    assert days_of(("system", "serving", "endpoint_usage"), read) == 400
    assert days_of(("system", "serving", "usage_hourly"), read) is None
    assert rules("") == []


def test_what_the_job_itself_lives_on_has_no_retention() -> None:
    assert days_of(("system", "internal", "landing"), rules("*=1")) is None
    assert days_of(("system", "internal", "erasures"), rules("*=1")) is None


@pytest.mark.parametrize("wrong", ["main.logs.x", "main.logs.x=0", "main.logs.x=-3", "main.logs.x=thirty", "a=1;b=2", "=3", "a=1=2"])
def test_a_setting_that_is_no_rule_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="retention"):
        Settings(retention=wrong)


@pytest.mark.parametrize("name", ["alice@example.com", "jürgen@example.com", "bob", 'quo"ted'])
def test_a_dead_letter_is_known_by_the_name_as_json_has_it(name: str) -> None:
    for text in (json.dumps({"user": name}), json.dumps({"user": name}, ensure_ascii=False)):
        assert any(sign in text.encode() for sign in signs(name))


def test_a_short_name_is_not_looked_for_inside_of_words() -> None:
    assert not any(sign in b'{"user": "bobby", "text": "bob"by' for sign in signs("bo"))


def test_who_copies_names_keeps_off_who_erases_them(tmp_path: Path) -> None:
    with copying_names(tmp_path), copying_names(tmp_path), pytest.raises(Busy, match="sluice cost"), erasing_names(tmp_path, 0.0):
        raise AssertionError("both at once")
    with erasing_names(tmp_path, 0.0), pytest.raises(Busy), erasing_names(tmp_path, 0.0):
        raise AssertionError("two at once")
