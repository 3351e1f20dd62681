"""A stack whose parts reach their broker through a network that fails: all is answered and recorded once, and goes on when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.network import Lasts, Network, ProxiedBroker
from tests.faults.proxy import Proxy
from tests.faults.run import Plan, run
from tests.faults.troubles import TROUBLES
from tests.running import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

REQUESTS, CLIENTS = 500, 32
# Shorter than by hand (network.py), but silence still lasts longer than the session.
LASTS = Lasts(slow_s=8, nowhere_s=12)


@pytest.fixture(scope="module")
def behind_proxy(running_stack: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Proxy]]:
    """A stack with two workers, and what lies between it and its broker."""
    broker = ProxiedBroker(tmp_path_factory.mktemp("broker"))
    with Proxy(broker.proxied_port) as proxy:
        broker.proxy_port = proxy.port
        broker.start()
        try:
            asyncio.run(broker.wait_ready(60))
            with running_stack("--workers", "2", "--kafka", f"127.0.0.1:{proxy.port}") as stack:
                yield stack, proxy
        finally:
            broker.stop()


async def test_latency_resets_and_silence_lose_nothing_and_double_nothing(
    behind_proxy: tuple[Stack, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, proxy = behind_proxy
    monkeypatch.setitem(TROUBLES, "network", lambda *given: Network(proxy, *given, lasts=LASTS))
    verdict = await run(stack, Plan("network", 1, REQUESTS, CLIENTS))
    print(f"{verdict.seconds:.0f} s, {verdict.happened}, {verdict.statuses}, longest {max(s.took_s for s in verdict.sent):.1f} s")
    assert verdict.violations == []
    assert set(verdict.statuses) <= {200, 429}
