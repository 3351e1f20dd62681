"""The fault suite in its short form: each trouble under load, on one stack, and every check finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.run import Plan, run
from tests.running import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

REQUESTS = 600


@pytest.fixture(scope="module")
def troubled(running_stack: Callable[..., Any]) -> Iterator[Stack]:
    """A stack with two workers."""
    with running_stack("--workers", "2") as stack:
        yield stack


@pytest.mark.parametrize(("trouble", "times"), [("kills", 1), ("stops", 1), ("drains", 2), ("comings", 2)])
async def test_nothing_is_lost_doubled_mixed_up_or_admitted_beyond_the_limit(troubled: Stack, trouble: str, times: int) -> None:
    verdict = await run(troubled, Plan(trouble, times, REQUESTS))
    assert verdict.violations == []
    assert len(verdict.happened) >= times
    assert all(one.answered < len(verdict.sent) for one in verdict.happened), "it happened when the load was over"
    assert set(verdict.statuses) <= {200, 429}
