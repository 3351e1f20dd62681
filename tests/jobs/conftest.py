"""One broker and one table job for all tests of this folder that need them; see running_job.py.

The tests share its tables, so each uses endpoints, catalogs and request ids of its own, and leaves the job running.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jobs.running_job import RunningJob
from tests.own_broker import own_broker

# Neither UTC nor a whole hour away from it: a time that goes through the machine's own zone comes out wrong. SLUICE_TEST_ZONE: another one.
ZONE = os.environ.get("SLUICE_TEST_ZONE", "Asia/Kolkata")


@pytest.fixture(scope="package")
def odd_zone() -> Iterator[None]:
    """Python's local time is another than the tables'."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@pytest.fixture(scope="package")
def job(tmp_path_factory: pytest.TempPathFactory, odd_zone: None) -> Iterator[RunningJob]:
    """The table job in this process, on a real broker and a real Spark."""
    with _running(tmp_path_factory.mktemp("tables") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def own_job(tmp_path_factory: pytest.TempPathFactory, odd_zone: None) -> Iterator[RunningJob]:
    """Another one, for tests that say something about all tables of a warehouse."""
    with _running(tmp_path_factory.mktemp("own") / "data") as running:
        yield running


@contextmanager
def _running(data: Path) -> Iterator[RunningJob]:
    with own_broker(data, trigger_s=0.2) as settings:
        running = RunningJob(settings)
        running.start()
        try:
            yield running
        finally:
            running.crash()
