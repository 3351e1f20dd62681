"""How long a record that joins a queue now will wait, judged from outside: from how far its readers have come at each moment.

By Little's law the wait is the number of records in front divided by the rate at which they are worked off. The rate is that of the time
in which there was something to do, and counts only when it has been measured for long enough: readers commit in lumps. Before that, and
whenever nothing is worked off any more, the wait is at least as long as that has lasted.

This is true of readers that commit what they have read, one after the other. It is not of those that hold many records at once and commit
the contiguous run of what is finished: there one slow record keeps back all that are behind it. Pure; never fails.
"""

from __future__ import annotations

from collections import deque

# A rate measured over less says little: what was finished is committed once a second.
MEASURED_S = 5.0
# Older movement says little about the present, and is kept only while there was none since.
REMEMBERED_S = 30.0
# What is finished counts as waiting until it is committed and the commit is seen: two seconds, from which nothing follows.
UNSEEN_S = 3.0


class Backlog:
    """One queue. `lag`: how many records are not finished, as far as is known."""

    def __init__(self) -> None:
        self.lag = 0
        # (time_s, committed) while there was something to do, the oldest first.
        self._seen: deque[tuple[float, int]] = deque()
        self._moved_s = 0.0

    def observe(self, time_s: float, committed: int, end: int) -> None:
        """What was seen at `time_s`, of a clock that never goes back: the first record that is not finished, and where the next one will
        be written."""
        seen = self._seen
        self.lag = max(end - committed, 0)
        if not self.lag or (seen and committed < seen[-1][1]):
            seen.clear()
        if not seen or committed > seen[-1][1]:
            self._moved_s = time_s
        elif len(seen) > 1 and seen[-2][1] == committed:
            # Of a standstill its beginning and its end say all.
            seen.pop()
        seen.append((time_s, committed))
        self._forget(time_s - REMEMBERED_S, committed)

    def _forget(self, before_s: float, committed: int) -> None:
        seen = self._seen
        while len(seen) > 1 and seen[1][0] <= before_s and seen[1][1] < committed:
            seen.popleft()
        if seen[0][0] < before_s and seen[0][1] < committed and seen[1][1] == seen[0][1]:
            # A standstill before all that is remembered.
            seen[0] = before_s, seen[0][1]

    @property
    def rate(self) -> float | None:
        """Records worked off in a second; None where that has not been measured."""
        if not self.lag:
            return None
        (begun_s, first), (now_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now_s - begun_s) if now_s - begun_s >= MEASURED_S else None

    @property
    def wait_s(self) -> float:
        """How long a record that comes now has to wait, as far as can be told."""
        if not self.lag:
            return 0.0
        still_s = self._seen[-1][0] - self._moved_s
        in_front_s = self.lag / self.rate if self.rate else 0.0
        return max(still_s, in_front_s, UNSEEN_S) - UNSEEN_S
