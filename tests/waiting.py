"""How tests wait: for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY_S = 0.02


def wait_for(condition: Callable[[], T], timeout_s: float, what: str = "") -> T:
    """What the condition says, once it holds. Fails after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"{what or 'it'} is not so within {timeout_s} s"
        time.sleep(LOOK_EVERY_S)
    return found
