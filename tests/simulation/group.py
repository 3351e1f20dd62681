"""The consumer group of the workers, in the classic eager protocol: sessions, joins, generations, and who gets which partitions.

A rebalance waits for all members that are alive, at most REBALANCE_S. A member whose heartbeats stay away for the session is thrown out.
Assignments are random but mostly sticky, so that partitions move about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.topics import COUNTED_PARTITIONS
from tests.simulation.scheduler import World

SESSION_S, HEARTBEAT_S, REBALANCE_S = 10.0, 2.5, 60.0
LOOK_S = 0.5


@dataclass(slots=True)
class Member:
    name: str
    heard_s: float
    joined: Callable[[int, frozenset[int]], None] | None = None
    partitions: frozenset[int] = field(default_factory=frozenset)


class Group:
    """The coordinator."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.rebalancing = False
        self._since_s = 0.0
        world.later(LOOK_S, self._look)

    def heartbeat(self, name: str, generation: int) -> str:
        """`ok`, `rejoin` or `unknown`."""
        member = self.members.get(name)
        if member is None or generation != self.generation:
            return "unknown"
        member.heard_s = self.world.now_s
        return "rejoin" if self.rebalancing else "ok"

    def join(self, name: str, joined: Callable[[int, frozenset[int]], None]) -> None:
        """Join or join again; `joined` is called when the next generation begins."""
        member = self.members.setdefault(name, Member(name, self.world.now_s))
        member.joined, member.heard_s = joined, self.world.now_s
        self._begin(f"{name} joins")

    def leave(self, name: str) -> None:
        """Leave at once."""
        if self.members.pop(name, None) is not None:
            self._begin(f"{name} leaves")

    def may_commit(self, name: str, generation: int) -> bool:
        return name in self.members and generation == self.generation

    def _begin(self, why: str) -> None:
        if not self.rebalancing:
            self.rebalancing, self._since_s = True, self.world.now_s
            self.world.tell(f"group: rebalance, since {why}")

    def _look(self) -> None:
        now_s = self.world.now_s
        for member in list(self.members.values()):
            if member.joined is None and now_s - member.heard_s > SESSION_S:
                del self.members[member.name]
                self._begin(f"{member.name} is silent")
        if self.rebalancing:
            waited_s = now_s - self._since_s
            late = [m.name for m in self.members.values() if m.joined is None]
            if late and waited_s > REBALANCE_S:
                for name in late:
                    del self.members[name]
                late = []
            if not late and waited_s > LOOK_S and self.members:
                self._complete()
        self.world.later(LOOK_S, self._look)

    def _complete(self) -> None:
        chance = self.world.random
        self.generation += 1
        self.rebalancing = False
        members = list(self.members.values())
        if chance.random() < 0.5:
            chance.shuffle(members)
        cuts = [COUNTED_PARTITIONS * n // len(members) for n in range(len(members) + 1)]
        for place, member in enumerate(members):
            member.partitions = frozenset(range(cuts[place], cuts[place + 1]))
            member.heard_s = self.world.now_s
            joined, member.joined = member.joined, None
            assert joined is not None
            joined(self.generation, member.partitions)
        self.world.tell(f"group: generation {self.generation}: " + ", ".join(f"{m.name} {sorted(m.partitions)}" for m in members))
