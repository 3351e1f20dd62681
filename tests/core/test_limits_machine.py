"""The limits as a state machine: any order of requests, crashes that lose a part of the changelog, and replays, against a naive model.

The model keeps every request of the log and what a run without crashes decides; `judge` must decide the same each time it sees one.
"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.core.limits import PERIOD_S, Counter, CounterId, counter_id, judge, window_start_s
from pipeline.endpoints import RateLimit

USERS = ("ann", "ben")
Place = tuple[CounterId, int]


class Limits(RuleBasedStateMachine):
    """One partition of requests to one endpoint, its owner's memory, and the changelog behind that."""

    @initialize(
        limits=st.lists(
            st.builds(
                RateLimit, calls=st.integers(0, 4), renewal_period=st.sampled_from(["second", "minute"]),
                key=st.sampled_from(["endpoint", "user"]),
            ),
            min_size=1, max_size=3, unique_by=lambda limit: (limit.renewal_period, limit.key),
        )
    )  # fmt: skip
    def configure(self, limits: list[RateLimit]) -> None:
        self.limits = limits
        self.log: list[tuple[str, int]] = []
        self.decided: list[bool] = []
        self.counted: dict[tuple[str, str, int], int] = defaultdict(int)
        self.position, self.committed = 0, 0
        self.memory: dict[Place, Counter] = {}
        # What was written, in order, with the number of requests that had been handled when it was.
        self.changelog: list[tuple[Place, Counter]] = []
        self.durable = 0
        self.now_ms = 1_800_000_000_000

    @rule(user=st.sampled_from(USERS), step_ms=st.sampled_from([0, 1, 300, 1_000, 20_000]))
    def send(self, user: str, step_ms: int) -> None:
        self.now_ms += step_ms
        keys = {
            (limit.renewal_period, user if limit.key == "user" else "", window_start_s(limit.renewal_period, self.now_ms)): limit.calls
            for limit in self.limits
        }
        admitted = all(self.counted[key] < calls for key, calls in keys.items())
        for key in keys:
            self.counted[key] += admitted
        self.log.append((user, self.now_ms))
        self.decided.append(admitted)

    @precondition(lambda self: self.position < len(self.log))
    @rule()
    def handle(self) -> None:
        user, time_ms = self.log[self.position]
        ids = [counter_id(limit, "id", "endpoint", user) for limit in self.limits]

        def place(cid: CounterId) -> Place:
            return cid, window_start_s(cid.period, time_ms)

        verdict = judge(
            self.limits, ids, lambda cid: self.memory.get(place(cid), Counter()), offset=self.position, time_ms=time_ms
        )  # fmt: skip
        assert (verdict.refused_by is None) == self.decided[self.position]
        if verdict.refused_by is not None:
            assert verdict.writes == () and 1 <= verdict.retry_after_s <= PERIOD_S[verdict.refused_by.renewal_period]
        for cid, counter in verdict.writes:
            self.memory[place(cid)] = counter
            self.changelog.append((place(cid), counter))
        self.position += 1

    @rule()
    def flush_and_commit(self) -> None:
        self.durable, self.committed = len(self.changelog), self.position

    @rule(survives=st.integers(0, 8))
    def crash(self, survives: int) -> None:
        """The next owner has at least what was flushed, perhaps some more, and starts at the committed offset."""
        del self.changelog[self.durable + survives :]
        self.durable = len(self.changelog)
        self.memory = dict(self.changelog)
        self.position = self.committed

    @invariant()
    def no_counter_is_beyond_its_limit(self) -> None:
        for (cid, _), counter in getattr(self, "memory", {}).items():
            kind = "user" if "user" in cid.subject.split("\x1f") else "endpoint"
            assert any(counter.count <= limit.calls for limit in self.limits if (limit.renewal_period, limit.key) == (cid.period, kind))


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
