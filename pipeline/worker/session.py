"""Whether the broker still counts this worker as a member of its group, as far as its answers to heartbeats tell.

Where the network fails and the process runs on, the session ends without the worker's knowing: its partitions become another's, and what
it writes after that could be written twice, or set counters back. So what it has to write waits while the session may be over, and goes
on when a heartbeat has been answered well. Where the answer says that the session is over and something is left to write, the worker ends
(watchdog.py): none of it may go out any more. A heartbeat without an answer gives its connection up early enough for another one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.protocol.group import JoinGroupRequest

# The session runs from the heartbeat's arrival, which was later than its departure; the rest is for what is written to arrive in.
SAFE_SHARE = 0.8
# With four heartbeats in a session: one that is lost still leaves time for the next, on another connection.
ANSWER_SHARE = 0.4


class Session:
    """Nothing waits before the first assignment, nor in a rebalance: then ownership.py says what may be written."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._certain_until_s = math.inf
        self._renewed = asyncio.Event()

    def rejoins(self) -> None:
        """A rebalance has begun: there are no heartbeats until it is over."""
        self._renew(math.inf)

    def renewed(self, sent_s: float) -> None:
        """What was sent at `sent_s`, by time.monotonic(), has been answered well."""
        self._renew(sent_s + self._timeout_s * SAFE_SHARE)

    async def certain(self) -> None:
        """Wait until it is certain that the session goes on."""
        while time.monotonic() > self._certain_until_s:
            self._renewed.clear()
            await self._renewed.wait()

    def _renew(self, until_s: float) -> None:
        self._certain_until_s = until_s
        self._renewed.set()

    def heartbeat(self, coordinator: Any, over: Callable[[], None]) -> Callable[[], Awaitable[bool]]:
        """aiokafka's heartbeat of this coordinator, bounded in time, its outcome noted here; `over` is called where the session is over."""
        beat = coordinator._do_heartbeat

        async def heartbeat() -> bool:
            sent_s = time.monotonic()
            try:
                async with asyncio.timeout(self._timeout_s * ANSWER_SHARE):
                    answered_well: bool = await beat()
            except TimeoutError:
                connection = coordinator._client._conns.get((coordinator.coordinator_id, ConnectionGroup.COORDINATION))
                if connection is not None:
                    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
                coordinator.coordinator_dead()
                return False
            if answered_well:
                self.renewed(sent_s)
            elif coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
                over()
            return answered_well

        return heartbeat
