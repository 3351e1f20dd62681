"""What the network between a stack and its broker does while the load runs.

slow        every chunk takes a second, in each direction
reset       all connections are reset, several times
nowhere     all connections lead nowhere, and so do new ones, for longer than a worker's session
half lost   some connections lead nowhere, and the others are fine

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
from tests.faults.troubles import AtMoments
from tests.running import Stack


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
class Lasts:
    """How long each fault lasts. `one_way_s` is the delay of each direction."""

    one_way_s: float = 1.0
    slow_s: float = 20.0
    resets: int = 5
    reset_every_s: float = 0.7
    nowhere_s: float = 15.0


class Network(AtMoments):
    """Each fault `times` times, in an order of the seed's."""

    FAULTS = ("slow", "reset", "nowhere", "half lost")

    def __init__(
        self, proxy: Proxy, stack: Stack, times: int, count: int, seed: int, answered: Callable[[], int], lasts: Lasts = Lasts()
    ) -> None:  # fmt: skip
        self._chance = random.Random(seed)
        plan = [fault for fault in self.FAULTS for _ in range(times)]
        self._chance.shuffle(plan)
        super().__init__(stack, plan, count, answered)
        self._proxy, self._lasts = proxy, lasts

    async def _happens(self, what: str) -> None:
        try:
            match what:
                case "slow":
                    self._proxy.delay(self._lasts.one_way_s)
                    await asyncio.sleep(self._lasts.slow_s)
                case "reset":
                    for _ in range(self._lasts.resets):
                        assert self._proxy.reset() > 0
                        await asyncio.sleep(self._lasts.reset_every_s)
                case "nowhere":
                    self._proxy.swallow()
                    await asyncio.sleep(self._lasts.nowhere_s)
                case "half lost":
                    # A worker whose heartbeats are lost may still produce.
                    assert self._proxy.lose(lambda number: self._chance.random() < 0.5) > 0
                    await asyncio.sleep(self._lasts.nowhere_s)
        finally:
            self._proxy.plain()
