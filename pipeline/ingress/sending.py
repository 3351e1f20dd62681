"""A checked request on its way to gateway.requests, and the word to the workers that its client has gone.

`Gateway` is what a request needs of this process, `Request` what has been checked of it. A broker that does not take the request is told
as Unavailable; whoever waits for the answer is told too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import uuid_utils
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.endpoints import Endpoint, Token
from pipeline.envelope import Envelope
from pipeline.errors import SluiceError, Unavailable
from pipeline.ingress.health import Health
from pipeline.ingress.metrics import Metrics
from pipeline.ingress.replies import Waiting
from pipeline.kafka.follower import Follower
from pipeline.kafka.lasting_producer import LastingProducer
from pipeline.kafka.partitions import partition_of
from pipeline.settings import Settings

log = logging.getLogger(__name__)
# How long the broker may take to take a request. An idempotent producer tries for ever, so after this the outcome is unknown.
SEND_TIMEOUT_S = 10.0
# How much longer than the deadline the ingress waits for the answer that says so.
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """What inference needs of this process."""

    settings: Settings
    producer: LastingProducer
    waiting: Waiting
    endpoints: Follower[Endpoint]
    health: Health
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request. `body` is the JSON that goes to the model; `digest` tells bodies apart under one Idempotency-Key.

    `replay_of`: the logged request that it is a replay of; empty: it is none."""

    request_id: str
    endpoint: Endpoint
    body: bytes
    digest: bytes
    usage_context: dict[str, str] | None
    client_request_id: str | None
    stream: bool = False
    replay_of: str = ""
    include_usage: bool = False


def record_of(request: Request, caller: Token, deadline_ms: int, reply_partition: int) -> bytes:
    """The value on gateway.requests: a RequestRecord, written around the body's bytes instead of through a model."""
    fields: dict[str, Any] = {
        "request_id": request.request_id,
        "endpoint": request.endpoint.name,
        "user": caller.user,
        "groups": caller.groups,
        "task": request.endpoint.config.task,
        "deadline_ms": deadline_ms,
        "reply_to": topics.RESPONSES.name,
        "reply_partition": reply_partition,
    }
    if request.usage_context is not None:
        fields["usage_context"] = request.usage_context
    if request.client_request_id is not None:
        fields["client_request_id"] = request.client_request_id
    return b"".join((orjson.dumps(fields)[:-1], b',"body":', request.body, b"}"))


async def send_request(gateway: Gateway, request: Request, caller: Token, failed: Callable[[SluiceError], None]) -> None:
    """Hand the request to the producer. Its acknowledgement is not waited for: the answer says the same; `failed` is told where there is
    none within SEND_TIMEOUT_S. Raises Unavailable where the producer does not take it."""
    settings, name = gateway.settings, request.endpoint.name
    deadline_ms = int((time.time() + settings.deadline_s) * 1000)
    envelope = Envelope(
        request_id=request.request_id,
        endpoint=name,
        user=caller.user,
        groups=tuple(caller.groups),
        deadline_ms=deadline_ms,
        revision=request.endpoint.revision,
        reply_to=topics.RESPONSES.name,
        reply_partition=settings.reply_partition,
        refused_id=str(uuid_utils.uuid7()) if request.digest else "",
        replay_of=request.replay_of,
    )
    value = record_of(request, caller, deadline_ms, settings.reply_partition)
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            delivery = await gateway.producer.send(
                topics.REQUESTS.name, value, name.encode(), partition_of(name, topics.COUNTED_PARTITIONS), headers=[envelope.header()]
            )
    except (KafkaError, TimeoutError) as exc:
        error = _not_taken(request.request_id, exc)
        failed(error)
        raise error from None

    def overdue() -> None:
        failed(_not_taken(request.request_id, TimeoutError()))

    timer = asyncio.get_running_loop().call_later(SEND_TIMEOUT_S, overdue)

    def delivered(future: asyncio.Future[Any]) -> None:
        timer.cancel()
        failure = None if future.cancelled() else future.exception()
        if failure is not None:
            failed(_not_taken(request.request_id, failure))

    delivery.add_done_callback(delivered)


def _not_taken(request_id: str, cause: BaseException) -> Unavailable:
    log.warning("request %s: the broker did not take it: %s", request_id, type(cause).__name__)
    return Unavailable(f"the broker has not confirmed request {request_id} ({type(cause).__name__}); try again", retry_after_s=2)


async def tell_cancelled(gateway: Gateway, request: Request) -> None:
    """Tell the worker that owns this request that nobody waits for it; where it can't be told it just goes on, so a failure is no error
    here. A client that has sent an Idempotency-Key may come back for the answer, so its request goes on as well."""
    if request.digest:
        return
    request_id = request.request_id
    try:
        await gateway.producer.send(
            topics.CANCELLATIONS.name,
            orjson.dumps({"request_id": request_id}),
            request_id.encode(),
            partition_of(request_id, topics.COUNTED_PARTITIONS),
        )
    except KafkaError as exc:
        log.info("request %s: its cancellation could not be sent: %s", request_id, type(exc).__name__)
