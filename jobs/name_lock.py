"""Keeps apart who copies names from one table into another (`sluice cost`, `sluice dashboard`) and who erases them.

Without it a command that has read a name before it was erased could write it after. A lock on a file of the warehouse: any number
copy at once, one erases alone; it goes with its process. Fails with Busy where erasing has waited too long.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import SluiceError

LOOK_EVERY_S = 0.1


class Busy(SluiceError):
    """Somebody copies names just now."""


@contextmanager
def copying_names(warehouse: Path) -> Iterator[None]:
    """Nothing is erased meanwhile."""
    with _file(warehouse) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def erasing_names(warehouse: Path, wait_s: float) -> Iterator[None]:
    """No name is copied meanwhile. Raises Busy after `wait_s`."""
    deadline_s = time.monotonic() + wait_s
    with _file(warehouse) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline_s:
                    raise Busy(f"`sluice cost` or `sluice dashboard` is at work in {warehouse}; try again when it has ended") from None
            time.sleep(LOOK_EVERY_S)
        yield


def _file(warehouse: Path) -> IO[str]:
    warehouse.mkdir(parents=True, exist_ok=True)
    return (warehouse / ".names.lock").open("w")
