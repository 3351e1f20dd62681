"""Makes a producer send fewer, larger requests the busier it is, and none later than at once where it is idle.

aiokafka sends what has gathered as soon as the last request is answered: under load that is hundreds of small requests a second, each
with its fixed cost for both sides and for every consumer woken by it. A linger would delay single records as well. Here a request
that carried several records is followed by a pause that grows with their number, and one that carried a record or two by none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.sender import SendProduceReqHandler
from aiokafka.structs import TopicPartition

# Requests of up to so many records are followed by no pause: that is how they come where there is little to do.
FREE_RECORDS = 2
PAUSE_PER_RECORD_S = 0.0005
LONGEST_PAUSE_S = 0.005


def pause_after_s(records: int) -> float:
    """How long after its beginning a request that carried so many records is followed by the next, at the earliest."""
    return min(max(records - FREE_RECORDS, 0) * PAUSE_PER_RECORD_S, LONGEST_PAUSE_S)


async def at_once() -> None:
    """Nothing to wait for."""


def paced(producer: AIOKafkaProducer, may_send: Callable[[], Awaitable[None]] = at_once) -> AIOKafkaProducer:
    """`producer`, not started yet, with its requests paced; `may_send` is awaited before each of them."""
    sender: Any = producer._sender

    async def send(node_id: int, batches: dict[TopicPartition, Any]) -> None:
        await may_send()
        begun_s = time.monotonic()
        records = sum(batch.record_count for batch in batches.values())
        await SendProduceReqHandler(sender, batches).do(node_id)
        pause_s = begun_s + pause_after_s(records) - time.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        sender._in_flight.remove(node_id)
        sender._muted_partitions.difference_update(batches)

    sender._send_produce_req = send
    return producer
