"""Where the table job can be ended: right before and right after the commit of each table, by what `ends` does.

    with crash_at("system.serving.endpoint_usage", "after", ends): ...        in the test's own process
    python -m tests.jobs.crashes system.serving.endpoint_usage after          a table job that is killed there, its JVM with it

Nothing of it is in the product: the three functions that commit are wrapped from outside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from jobs.delta import DeltaFolder
from jobs.entities import ServedEntities

LANDING = "system.internal.landing"
COMMITS: tuple[tuple[type, str, Callable[[Any], DeltaFolder]], ...] = (
    (DeltaFolder, "append", lambda folder: folder),
    (DeltaFolder, "replace", lambda folder: folder),
    (ServedEntities, "_merge", lambda entities: entities.table),
)


class Killed(BaseException):
    """What no handler of failures in the job may catch."""


class Dead(Exception):
    """The same inside a batch, which Spark must see fail."""


def raises(table: str) -> NoReturn:
    """An end that a test survives: nothing but this exception comes out of the job."""
    if table == LANDING:
        raise Dead
    raise Killed


def kills(table: str) -> NoReturn:
    """SIGKILL to this process and all that it started."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


@contextmanager
def crash_at(table: str, when: str, ends: Callable[[str], NoReturn] = raises, and_then: bool = False) -> Iterator[threading.Event]:
    """The first commit to `table` ends the job before or after it is made; the event says that it did. `and_then`: the job goes on
    where `ends` lets it; else nothing is committed any more."""
    reached = threading.Event()
    wrapped = {(owner, name): getattr(owner, name) for owner, name, _ in COMMITS}

    def around(commit: Callable[..., Any], folder: Callable[[Any], DeltaFolder]) -> Callable[..., Any]:
        def committing(self: Any, *args: Any) -> Any:
            name = ".".join(folder(self).path.parts[-3:])
            if reached.is_set() and not and_then:
                raises(name)
            here = name == table and not reached.is_set()
            if here and when == "before":
                reached.set()
                ends(name)
            result = commit(self, *args)
            if here and when == "after":
                reached.set()
                ends(name)
            return result

        return committing

    for owner, name, folder in COMMITS:
        setattr(owner, name, around(wrapped[owner, name], folder))
    try:
        yield reached
    finally:
        for (owner, name), commit in wrapped.items():
            setattr(owner, name, commit)


if __name__ == "__main__":
    from jobs.table_job import main
    from pipeline.settings import Settings

    with crash_at(*sys.argv[1:3], ends=kills):
        main(Settings())
