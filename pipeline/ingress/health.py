"""Can this ingress get requests answered? Polled in the background, so that asking costs nothing and no request waits in vain.

Ready means: the broker answers, the workers' consumer group is stable and has members, and the position in the answers' topic
is fixed. Without workers (a moment's absence, as in a restart, is forgiven) inference is refused with 503 at once, and so is a request
that would have to wait in gateway.requests for longer than its deadline. That topic alone tells: admit commits what it has read, one record
after the other. On gateway.admitted a call under way keeps back the commits of all that are finished behind it, so there the same numbers
say nothing of a queue; they are shown, and nothing is refused for them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from pipeline import topics
from pipeline.core.backlog import Backlog
from pipeline.errors import Unavailable
from pipeline.kafka.connection import client_options
from pipeline.kafka.group_lag import GroupLag, Place
from pipeline.kafka.partitions import partition_of
from pipeline.settings import Settings

log = logging.getLogger(__name__)
POLL_S = 1.0
# How long nobody may be there to take requests before new ones are refused instead of queued.
FORGIVEN_S = 3.0
UNKNOWN = "not asked yet"
# A client that is told to come back when a long queue has been worked off asks again earlier: the workers may be more by then.
LONGEST_RETRY_S = 60


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
        self._places = GroupLag(settings, topics.WORKER_GROUP, (topics.REQUESTS, topics.ADMITTED))
        self._requests = [Backlog() for _ in range(topics.REQUESTS.partitions)]
        # Records that are not finished, by topic.
        self.unfinished = {topics.REQUESTS.name: 0, topics.ADMITTED.name: 0}

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

    def require_in_time(self, endpoint: str) -> None:
        """Raises Unavailable where a request to `endpoint` would wait in front of the workers for longer than its deadline."""
        backlog = self._requests[partition_of(endpoint, topics.REQUESTS.partitions)]
        if self._is_late(backlog):
            wait_s = math.ceil(backlog.wait_s - self._settings.deadline_s)
            raise Unavailable(self._told(backlog), retry_after_s=min(wait_s, LONGEST_RETRY_S))

    def unfinished_of(self, topic: str) -> int:
        """Records of `topic` that wait or are under way, as of the last poll."""
        return self.unfinished[topic]

    @property
    def wait_s(self) -> float:
        """How long a request waits in front of the workers, in the partition that is furthest behind."""
        return max(backlog.wait_s for backlog in self._requests)

    def behind(self) -> list[str]:
        """The partitions whose requests would wait for longer than their deadline. Others are served, so the ingress stays ready."""
        return [
            f"{topics.REQUESTS.name}[{number}]: {self._told(backlog)}"
            for number, backlog in enumerate(self._requests)
            if self._is_late(backlog)
        ]

    def _is_late(self, backlog: Backlog) -> bool:
        return backlog.wait_s > self._settings.deadline_s

    def _told(self, backlog: Backlog) -> str:
        rate = f"{round(backlog.rate, 1):g} are worked off in a second" if backlog.rate else "none has been worked off lately"
        return (
            f"{backlog.lag} requests wait in front of the workers and {rate}, so another would wait for {backlog.wait_s:.0f} s, beyond its "
            f"deadline of {self._settings.deadline_s:g} s; try again later, or start more workers"
        )

    async def start(self) -> None:
        """Ask once, then go on asking in the background."""
        admin = AIOKafkaAdminClient(**client_options(self._settings) | {"request_timeout_ms": 5_000}, client_id="sluice-health")
        await self._places.start()
        await admin.start()
        await self._poll(admin)
        self._task = asyncio.create_task(self._run(admin), name="poll health")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._places.stop()

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
        places = await self._read_places(admin) if self._lost_at is None else None
        if places is None:
            # What is not known refuses nobody, and a time without workers is no measure of those that come.
            self._requests = [Backlog() for _ in self._requests]
            return
        now_s = time.monotonic()
        unfinished = dict.fromkeys(self.unfinished, 0)
        for tp, place in places.items():
            unfinished[tp.topic] += max(place.end - place.committed, 0)
            if tp.topic == topics.REQUESTS.name:
                self._requests[tp.partition].observe(now_s, place.committed, place.end)
        self.unfinished = unfinished

    async def _read_places(self, admin: AIOKafkaAdminClient) -> dict[TopicPartition, Place] | None:
        try:
            async with asyncio.timeout(6):
                return await self._places.read(admin)
        except Exception as exc:  # the poll goes on; where the broker is away, its next turn says so
            log.warning("asking how far the workers are failed: %s", type(exc).__name__)
            return None
