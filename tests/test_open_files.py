"""A process that serves requests has as many files as it is granted, whatever its shell gave it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("soft", "hard", "becomes"), [(64, 512, 512), (512, 512, 512)])
def test_the_soft_limit_becomes_the_hard_one(soft: int, hard: int, becomes: int) -> None:
    program = (
        "import resource; from pipeline.open_files import allow_many; allow_many(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )  # fmt: skip
    assert done.stdout.split() == [str(becomes), str(hard)]
