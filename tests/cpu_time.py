"""How long calls take, whatever else the machine does: CPU time, the least of several runs. Measures only; the bounds are the tests'."""

import time
from collections.abc import Callable


def fastest_ms(*calls: Callable[[], object], runs: int) -> list[float]:
    """CPU time of this thread for each call, the least of `runs`; the calls take turns, so that what slows one slows all."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, times in zip(calls, taken, strict=True):
            started_s = time.thread_time()
            call()
            times.append((time.thread_time() - started_s) * 1000)
    return [min(times) for times in taken]
