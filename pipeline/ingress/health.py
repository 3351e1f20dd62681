"""Can this ingress get requests answered? Polled in the background, so that asking costs nothing and no request waits in vain.

Ready means: the broker answers, the workers' consumer group is stable and has members, and the position in the answers' topic
is fixed. Without workers (a moment's absence, as in a restart, is forgiven) inference is refused with 503 at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from pipeline import topics
from pipeline.errors import Unavailable
from pipeline.kafka.connection import client_options
from pipeline.settings import Settings

log = logging.getLogger(__name__)
POLL_S = 1.0
# How long nobody may be there to take requests before new ones are refused instead of queued.
FORGIVEN_S = 3.0
UNKNOWN = "not asked yet"


class Health:
    """`replies_ready` tells whether answers are being read."""

    def __init__(self, settings: Settings, replies_ready: Callable[[], bool]) -> None:
        self._settings, self._replies_ready = settings, replies_ready
        self._broker_error: str | None = UNKNOWN
        self._group_state = UNKNOWN
        self._members = 0
        # Since when nobody could take a request; None while somebody can.
        self._lost_at: float | None = time.monotonic() - FORGIVEN_S
        self._task: asyncio.Task[None] | None = None

    def missing(self) -> list[str]:
        """What stands between this ingress and an answer; empty when it is ready."""
        missing = []
        if self._broker_error:
            missing.append(f"broker {self._settings.kafka} does not answer: {self._broker_error}")
        elif self._members == 0:
            missing.append(f"no worker is running (consumer group '{topics.WORKER_GROUP}' is {self._group_state}); start `sluice worker`")
        elif self._group_state != "Stable":
            missing.append(f"the workers are sharing out their partitions (consumer group is {self._group_state})")
        if not self._replies_ready():
            missing.append(f"the position in {topics.RESPONSES.name} is not fixed")
        return missing

    def require_workers(self) -> None:
        """Raises Unavailable where a request would find nobody to answer it."""
        if self._lost_at is not None and time.monotonic() - self._lost_at >= FORGIVEN_S:
            raise Unavailable("; ".join(self.missing()) or "the workers are coming back; try again", retry_after_s=2)
        if not self._replies_ready():
            raise Unavailable(f"the position in {topics.RESPONSES.name} is not fixed; try again", retry_after_s=2)

    async def start(self) -> None:
        """Ask once, then go on asking in the background."""
        admin = AIOKafkaAdminClient(**client_options(self._settings) | {"request_timeout_ms": 5_000}, client_id="sluice-health")
        await admin.start()
        await self._poll(admin)
        self._task = asyncio.create_task(self._run(admin), name="poll health")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, admin: AIOKafkaAdminClient) -> None:
        try:
            while True:
                await asyncio.sleep(POLL_S)
                await self._poll(admin)
        finally:
            await admin.close()

    async def _poll(self, admin: AIOKafkaAdminClient) -> None:
        try:
            async with asyncio.timeout(6):
                [response] = await admin.describe_consumer_groups([topics.WORKER_GROUP])
            group = response.groups[0]
            self._broker_error, self._group_state, self._members = None, group[2] or "unknown", len(group[5])
        except GroupCoordinatorNotAvailableError:
            # The broker answers, but has not set up consumer groups yet: no worker was ever here.
            self._broker_error, self._group_state, self._members = None, "unknown", 0
        except (KafkaError, OSError, TimeoutError) as exc:
            self._broker_error = type(exc).__name__
        except Exception as exc:  # a poll that dies would leave its last word standing for ever
            log.exception("asking for the workers' group failed")
            self._broker_error = type(exc).__name__
        if self._broker_error is None and self._members > 0:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = time.monotonic()
