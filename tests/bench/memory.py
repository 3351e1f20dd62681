"""How much memory the parts of a running stack hold while requests go through: samples, their slope for each process's life, a plot.

A part's memory is what its process and all that it has started keep resident, pages that they share counted in each. A life is the time of
one process, from its start to the next restart. Reads /proc, so it is Linux's only. The slope is that of the least squares' line over a
life's samples, the first of them left out: a process fills its pools, its caches and the window of repeats before it can be flat. Where
another part is restarted a worker takes partitions over, which may cost memory once: the line may step there, with one slope all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1_048_576
# Fewer say nothing about a slope.
LEAST_SAMPLES = 15
PER_REQUESTS = 10_000
# From a restart until all partitions have been taken over, a killed worker's session included.
TAKE_OVER_S = 20.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process: when, after how many answered requests, and what it held."""

    at_s: float
    answered: int
    mb: float


@dataclass(slots=True)
class Life:
    """One process of one part, from its first sample to its last."""

    part: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests were answered while it lived."""
        return self.samples[-1].answered - self.samples[0].answered

    def settled(self, warm_up_s: float) -> list[Sample]:
        """The samples that count."""
        begin_s = self.samples[0].at_s + warm_up_s
        return [sample for sample in self.samples if sample.at_s >= begin_s]

    def slope(self, warm_up_s: float, restarted: Iterable[int] = ()) -> float | None:
        """Megabytes more for each PER_REQUESTS requests; None where it did not live long enough to tell.

        `restarted`: after how many answered requests other parts were; the line may step in the TAKE_OVER_S after each.
        """
        pieces = self._between(self.settled(warm_up_s), sorted(restarted))
        if sum(map(len, pieces)) < LEAST_SAMPLES:
            return None
        along = across = 0.0
        for piece in pieces:
            x, y = fmean(s.answered for s in piece), fmean(s.mb for s in piece)
            along += sum((s.answered - x) * (s.mb - y) for s in piece)
            across += sum((s.answered - x) ** 2 for s in piece)
        return along / across * PER_REQUESTS if across else None

    def _between(self, samples: list[Sample], restarted: list[int]) -> list[list[Sample]]:
        """The samples from each restart to the next, without those in which it is got over."""
        pieces: list[list[Sample]] = []
        for begin, end in pairwise((0, *restarted, sys.maxsize)):
            those = [s for s in samples if begin <= s.answered < end]
            first_s = those[0].at_s + TAKE_OVER_S if those and begin else 0.0
            pieces.append([s for s in those if s.at_s >= first_s])
        return [piece for piece in pieces if piece]


class Memory:
    """All lives of all parts, in the order in which they began."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self._now: dict[str, Life] = {}

    def look(self, pids: dict[str, int], at_s: float, answered: int) -> None:
        """Take a sample of each part; `pids` are the processes that they are now."""
        held = resident_mb(pids.values())
        for part, pid in pids.items():
            if pid not in held:
                continue
            life = self._now.get(part)
            if life is None or life.pid != pid:
                life = self._now[part] = Life(part, pid)
                self.lives.append(life)
            life.samples.append(Sample(at_s, answered, held[pid]))


def resident_mb(leaders: Iterable[int]) -> dict[int, float]:
    """What each of these processes and its descendants hold. Each must lead a session of its own; those that are gone are left out."""
    wanted = set(leaders)
    held: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name, which may hold anything: state, parent, group, session, ... resident pages.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        session = int(fields[3])
        # One that has ended and is not yet seen to has none.
        if session in wanted and fields[21] != "0":
            held[session] = held.get(session, 0.0) + int(fields[21]) * PAGE_MB
    return held


def draw(lives: Iterable[Life], to: Path, title: str) -> None:
    """The samples of all lives as a picture: a panel for each part, a line for each life."""
    by_part: dict[str, list[Life]] = {}
    for life in lives:
        by_part.setdefault(life.part, []).append(life)
    figure = Figure(figsize=(10, 2.2 * len(by_part)), layout="constrained")
    panels = figure.subplots(len(by_part), 1, sharex=True, squeeze=False)[:, 0]
    for (part, those), panel in zip(sorted(by_part.items()), panels, strict=True):
        for life in those:
            panel.plot([s.answered for s in life.samples], [s.mb for s in life.samples], linewidth=1)
        panel.set_ylim(0, 1.1 * max(s.mb for life in those for s in life.samples))
        panel.set_ylabel(f"{part}, MB")
    panels[-1].set_xlabel("requests answered")
    figure.suptitle(title, fontsize=10)
    figure.savefig(to, dpi=120)
