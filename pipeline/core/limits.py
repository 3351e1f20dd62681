"""Rate limits: may this request pass, and what do the counters say afterwards. Contract, part 7.

    1. The caller names the request's place in the log (`offset`) and its time (the broker's first append).
    2. `judge` reads one counter for each limit: of the endpoint or of the user, in the tumbling window of that time.
    3. It admits where all limits allow, and returns the counters to write. A refusal writes nothing.

Exact under replay, without transactions: a counter is (count, last_offset). A request beyond `last_offset` is new and counted; one
at or before it is a replay, is allowed by this counter and counted no more. It must have been allowed then: the window admitted a
later request, so it was not full. Hence a replay after a crash gives the first run's decisions whatever part of the
counters' changelog survived, and no limit is ever exceeded.

Pure: no clock, no tables. It can't fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.endpoints import RateLimit

PERIOD_S: dict[str, int] = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Counter:
    """What one window has admitted, and the log offset of the last request it admitted."""

    count: int = 0
    last_offset: int = -1


@dataclass(frozen=True, slots=True)
class CounterId:
    """A counter's place: the renewal period (which table) and what is counted (which key)."""

    period: str
    subject: str


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of the limit with the smallest share left. `reset_s`: whole seconds to its window's end."""

    limit: int
    remaining: int
    reset_s: int

    def as_dict(self) -> dict[str, int]:
        """As it travels in envelopes and answers."""
        return {"limit": self.limit, "remaining": self.remaining, "reset_s": self.reset_s}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused_by` None: admitted, and `writes` are the counters' new values. Otherwise `writes` is empty."""

    refused_by: RateLimit | None
    retry_after_s: int
    writes: tuple[tuple[CounterId, Counter], ...]
    remaining: Remaining | None


def window_start_s(period: str, time_ms: int) -> int:
    """The start, in epoch seconds, of the window of `period` that holds `time_ms`: windows are aligned to the epoch, in UTC."""
    size_s = PERIOD_S[period]
    return time_ms // 1000 // size_s * size_s


def seconds_left(period: str, time_ms: int) -> int:
    """Whole seconds from `time_ms` to its window's end, rounded up: at least 1."""
    end_ms = (window_start_s(period, time_ms) + PERIOD_S[period]) * 1000
    return -(-(end_ms - time_ms) // 1000)


def counter_id(limit: RateLimit, endpoint_id: str, endpoint: str, user: str) -> CounterId:
    """Which counter a limit reads. The endpoint's name comes first, so that a counter's partition can be told from its key."""
    subject = f"user\x1f{user}" if limit.key == "user" else "endpoint"
    return CounterId(limit.renewal_period, f"{endpoint}\x1f{endpoint_id}\x1f{subject}")


def endpoint_of(subject: str) -> str:
    """The endpoint's name in a counter's subject."""
    return subject.split("\x1f", 1)[0]


def judge(
    limits: Sequence[RateLimit], ids: Sequence[CounterId], read: Callable[[CounterId], Counter], *, offset: int, time_ms: int
) -> Verdict:  # fmt: skip
    """Admit or refuse one request.

    `ids` are the counters of `limits`, in the same order (two limits may share one); `read` gives a counter's present value in
    the window of `time_ms`; `offset` is the request's place in its partition.
    """
    refused_by: RateLimit | None = None
    writes: dict[CounterId, Counter] = {}
    tightest: tuple[float, Remaining] | None = None
    for limit, counter_id_ in zip(limits, ids, strict=True):
        counter = read(counter_id_)
        replayed = offset <= counter.last_offset
        if not replayed and counter.count >= limit.calls:
            # Of several that refuse, the one that lasts longest is named: waiting for another would not help.
            if refused_by is None or PERIOD_S[limit.renewal_period] > PERIOD_S[refused_by.renewal_period]:
                refused_by = limit
            continue
        count = counter.count if replayed else counter.count + 1
        if not replayed:
            writes[counter_id_] = Counter(count, offset)
        left = max(0, limit.calls - count)
        share = left / limit.calls if limit.calls else 0.0
        if tightest is None or share < tightest[0]:
            tightest = share, Remaining(limit.calls, left, seconds_left(limit.renewal_period, time_ms))
    if refused_by is not None:
        wait_s = seconds_left(refused_by.renewal_period, time_ms)
        return Verdict(refused_by, wait_s, (), Remaining(refused_by.calls, 0, wait_s))
    return Verdict(None, 0, tuple(writes.items()), tightest[1] if tightest else None)
