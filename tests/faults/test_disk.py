"""The disk of the broker, then that of the table job, is full while requests come: it shows, and nothing is lost when there is room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.disk import FullDisks
from tests.faults.run import Plan, run
from tests.faults.troubles import TROUBLES

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(900)]


async def test_a_full_disk_shows_and_loses_nothing(running_stack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FullDisks] = []

    def full_disks(*given: Any) -> FullDisks:
        made.append(FullDisks(*given))
        return made[0]

    monkeypatch.setitem(TROUBLES, "full-disks", full_disks)
    with running_stack("--workers", "2") as stack:
        verdict = await run(stack, Plan("full-disks", 1, 600, clients=16))
        print(f"{verdict.seconds:.0f} s, {verdict.happened}, {verdict.statuses}, longest {max(s.took_s for s in verdict.sent):.1f} s")
    (trouble,) = made
    assert verdict.violations == []
    assert set(verdict.statuses) <= {200, 429}
    assert 503 in trouble.refused
    assert any("does not answer" in reason for reason in trouble.unready)
    assert trouble.tables_unready
