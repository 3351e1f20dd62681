"""What the network between a stack and its broker does while the load runs: slow, reset, open but leading nowhere.

Kafka's clients go on to the address that the broker names, so the broker names the proxy's: a listener of its own beside the plain one
(`ProxiedBroker`). A stack is then started with `--kafka` and that listener, and all its parts reach the broker through the proxy only.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.stack.jars import find_java, kafka_jars
from pipeline.stack.kafka_server import KafkaServer
from pipeline.stack.ports import free_port
from tests.faults.proxy import Proxy

FIRST_AT, LAST_AT = 0.05, 0.8


class ProxiedBroker(KafkaServer):
    """A broker with a second listener, which names `proxy_port` as its address. Point the proxy at `proxied_port`."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, free_port(), find_java(), kafka_jars())
        self.proxied_port, self.proxy_port = free_port(), 0

    def _configuration(self) -> str:
        lines = super()._configuration().splitlines()
        added = {
            "listeners": f"PROXIED://127.0.0.1:{self.proxied_port}",
            "advertised.listeners": f"PROXIED://127.0.0.1:{self.proxy_port}",
            "listener.security.protocol.map": "PROXIED:PLAINTEXT",
        }
        return "".join(f"{line},{added[name]}\n" if (name := line.partition("=")[0]) in added else f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Times:
    """How long each fault lasts. `one_way_s` is the delay of each direction."""

    one_way_s: float = 1.0
    slow_s: float = 20.0
    resets: int = 5
    reset_every_s: float = 0.7
    nowhere_s: float = 15.0


class Network:
    """Each fault once, in an order of the seed's, spread over a load of `count` requests of which `answered` tells the progress."""

    def __init__(self, proxy: Proxy, count: int, seed: int, answered: Callable[[], int], times: Times = Times()) -> None:
        self._proxy, self._count, self._answered, self._times = proxy, count, answered, times
        self._chance = random.Random(seed)
        self._plan = [self.slow, self.reset, self.nowhere, self.half_lost]
        self._chance.shuffle(self._plan)
        self.done: list[tuple[str, int]] = []

    async def run(self) -> None:
        """Until each fault has been, and is over."""
        for number, fault in enumerate(self._plan):
            share = FIRST_AT + (LAST_AT - FIRST_AT) * number / (len(self._plan) - 1)
            while self._answered() < share * self._count:
                await asyncio.sleep(0.02)
            self.done.append((fault.__name__, self._answered()))
            try:
                await fault()
            finally:
                self._proxy.plain()

    async def slow(self) -> None:
        """Every chunk takes its time."""
        self._proxy.delay(self._times.one_way_s)
        await asyncio.sleep(self._times.slow_s)

    async def reset(self) -> None:
        """All connections are reset, several times."""
        for _ in range(self._times.resets):
            assert self._proxy.reset() > 0
            await asyncio.sleep(self._times.reset_every_s)

    async def nowhere(self) -> None:
        """All connections lead nowhere, and so do new ones, for longer than a worker's session."""
        self._proxy.swallow()
        await asyncio.sleep(self._times.nowhere_s)

    async def half_lost(self) -> None:
        """Some connections lead nowhere and the others are fine: a worker whose heartbeats are lost may still produce."""
        assert self._proxy.lose(lambda number: self._chance.random() < 0.5) > 0
        await asyncio.sleep(self._times.nowhere_s)
