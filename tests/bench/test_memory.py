"""A life's slope is that of its samples after the warm-up, and each restart begins a life."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.bench.memory import Life, Memory, Sample, draw, resident_mb


def life(mb_per_request: float, seconds: int = 100) -> Life:
    # Ten requests a second; 50 MB more in the first ten seconds.
    made = [Sample(float(s), s * 10, 100 + 5 * min(s, 10) + mb_per_request * s * 10) for s in range(seconds)]
    return Life("worker-0", 7, made)


def test_a_slope_is_per_ten_thousand_requests_and_leaves_the_warm_up_out() -> None:
    assert life(0.001).slope(10) == pytest.approx(10.0)
    assert life(0.0).slope(10) == pytest.approx(0.0)
    assert (life(0.0).slope(0) or 0) > 100


def test_a_step_where_another_part_was_restarted_is_no_slope() -> None:
    stepped = life(0.0)
    stepped.samples = [Sample(s.at_s, s.answered, s.mb + (10 if s.answered >= 650 else 0)) for s in stepped.samples]
    assert (stepped.slope(10) or 0) > 100
    assert stepped.slope(10, [500]) == pytest.approx(0.0)
    assert life(0.001).slope(10, [500]) == pytest.approx(10.0)


def test_a_short_life_has_no_slope() -> None:
    assert life(0.001, seconds=20).slope(10) is None


def test_a_new_process_is_a_new_life_and_a_child_counts_with_its_parent(tmp_path: Path) -> None:
    child = "import sys; held = b'x' * 60_000_000; print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    memory = Memory()
    looks = iter([(0.0, 0), (1.0, 10), (2.0, 20)])
    for program, times in ((parent, 2), (child.replace("60_000_000", "6"), 1)):
        with subprocess.Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(times):
                memory.look({"part": process.pid}, *next(looks))
            process.communicate(b"")
    assert [(one.part, len(one.samples), one.requests) for one in memory.lives] == [("part", 2, 10), ("part", 1, 0)]
    assert memory.lives[0].samples[0].mb > 60 > memory.lives[1].samples[0].mb
    draw(memory.lives, tmp_path / "plot.png", "two lives")
    assert (tmp_path / "plot.png").stat().st_size > 1_000


def test_a_process_that_is_gone_is_left_out() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    done.wait()
    assert resident_mb([done.pid]) == {}
    assert resident_mb([os.getsid(0)])[os.getsid(0)] > 0
