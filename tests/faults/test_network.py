"""A stack whose parts reach their broker through a network that fails: all is answered and recorded once, and goes on when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.network import Network, ProxiedBroker
from tests.faults.proxy import Proxy
from tests.faults.run import run
from tests.running import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

REQUESTS, CLIENTS, SEED = 800, 32, 1


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


async def test_latency_resets_and_silence_lose_nothing_and_double_nothing(behind_proxy: tuple[Stack, Proxy]) -> None:
    stack, proxy = behind_proxy
    answered = 0

    def watch(done: int) -> None:
        nonlocal answered
        answered = done

    trouble = Network(proxy, REQUESTS, SEED, lambda: answered)
    verdict, _ = await asyncio.gather(run(stack, REQUESTS, CLIENTS, 0, SEED, watch), trouble.run())
    longest = max(s.took_s for s in verdict.sent)
    print(
        f"{verdict.seconds:.0f} s, {trouble.done}, {verdict.statuses}, {sum(s.tries for s in verdict.sent)} tries, longest {longest:.1f} s"
    )
    assert verdict.violations == []
    assert set(verdict.statuses) <= {200, 429}
