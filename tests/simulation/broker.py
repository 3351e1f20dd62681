"""The log: topics with partitions, offsets and append times; committed offsets; who wants to know of new records.

Appending is atomic and durable, and the order of a partition is the order of appends. A broker that loses what it has acknowledged is not
modelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faust.types import TP

from pipeline import topics
from tests.simulation.scheduler import World


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in the log. `by`: the process or client that wrote it; `at_s`: virtual time of the append."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp: int
    by: str
    at_s: float


class Broker:
    """One cluster."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log: dict[TP, list[Stored]] = defaultdict(list)
        self.committed: dict[TP, int] = {}
        self.appended: list[Stored] = []
        self.listeners: dict[str, list[Callable[[Stored], None]]] = defaultdict(list)
        self.backward_commits: list[str] = []
        self._times = {t.name: t.log_append_time for t in topics.ALL}

    def append(self, tp: TP, key: bytes | None, value: bytes | None, headers: Any, timestamp_ms: int, by: str) -> Stored:
        """Put a record at the end of a partition."""
        now_ms = int(self.world.wall_s() * 1000)
        log = self.log[tp]
        stamp = now_ms if self._times.get(tp.topic) else timestamp_ms
        record = Stored(tp.topic, tp.partition, len(log), key, value, list(headers or ()), stamp, by, self.world.now_s)
        log.append(record)
        self.appended.append(record)
        for listener in self.listeners[tp.topic]:
            listener(record)
        return record

    def commit(self, offsets: dict[TP, int], by: str) -> None:
        """Remember committed offsets, and that one went back."""
        for tp, offset in offsets.items():
            if offset < self.committed.get(tp, 0):
                self.backward_commits.append(
                    f"{by} commits {offset} of {tp.topic}[{tp.partition}], where {self.committed[tp]} was committed"
                )
            self.committed[tp] = offset

    def records(self, topic: str) -> list[Stored]:
        """All records of a topic, in order of their appends."""
        return [record for record in self.appended if record.topic == topic]
