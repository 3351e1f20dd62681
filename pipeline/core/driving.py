"""Drives a generator that asks for work, where the work can be done on the spot. Pure; what `do` raises goes to the caller."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

W = TypeVar("W")
R = TypeVar("R")
T = TypeVar("T")


def driven(steps: Generator[W, R, T], do: Callable[[W], R]) -> T:
    """What `steps` returns when each thing it yields is answered with what `do` makes of it."""
    try:
        work = next(steps)
        while True:
            work = steps.send(do(work))
    except StopIteration as end:
        came_to: T = end.value
        return came_to
