"""Sends a command to the control plane's topic and waits for its answer.

The ingress does it over the producer and the reply reader it has anyway (`exchange`), the command line with a producer and a
groupless consumer of its own (`send_command`). An error in the answer is raised as the error of its status; no answer in time is
Unavailable, and then the change may still come. Nothing is decided here: core/commands.py does that, in the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import orjson
import uuid_utils
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.core.commands import Command, Operation, checked
from pipeline.errors import Unavailable, from_status
from pipeline.kafka.connection import MAX_REQUEST_BYTES, client_options, new_producer, stop_consumer, stop_producer
from pipeline.settings import Settings

TOKEN_PREFIX = "sluice-"  # noqa: S105 - what a token starts with, so that one is recognised where it should not be


class Answers(Protocol):
    """Where answers arrive: `expecting` gives a future that resolves to the decoded answer record of this id."""

    def expecting(self, request_id: str) -> contextlib.AbstractContextManager[asyncio.Future[dict[str, Any]]]: ...


class Sends(Protocol):
    """A producer: `send_and_wait` hands a record over and waits until the broker has it."""

    async def send_and_wait(self, topic: str, value: bytes) -> Any: ...


def new_command(op: Operation, key: str, payload: dict[str, Any], user: str, reply_partition: int) -> Command:
    """A command with an id of its own; InvalidParameter where the payload is wrong: it is checked before it travels."""
    checked(op, payload)
    return Command(command_id=str(uuid_utils.uuid7()), op=op, key=key, payload=payload, user=user, reply_partition=reply_partition)


def new_token(user: str, groups: Sequence[str], admin: bool, by: str, reply_partition: int) -> tuple[str, Command]:
    """A new token, and the command that makes it known. The token is shown once; only its hash is in the command."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    payload = {"token_id": secrets.token_hex(8), "user": user, "groups": list(groups), "admin": admin}
    return token, new_command("create_token", token_hash(token), payload, by, reply_partition)


def token_hash(token: str) -> str:
    """The key of a token on `gateway.tokens`: SHA-256 in hex. Tokens are random, so no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


async def exchange(producer: Sends, answers: Answers, command: Command, timeout_s: float = 10) -> dict[str, Any]:
    """Send `command` and return its answer's body (with `revision`). Raises the answer's error, or Unavailable."""
    with answers.expecting(command.command_id) as answer:
        try:
            async with asyncio.timeout(timeout_s):
                await producer.send_and_wait(topics.COMMANDS.name, command.encode())
                return result(await answer)
        except TimeoutError:
            raise Unavailable(
                f"no worker has answered {command.op} within {timeout_s:g} s; it may still be carried out: look before you repeat it. "
                "Is a worker running?",
                retry_after_s=2,
            ) from None
        except KafkaError as exc:
            raise Unavailable(f"the broker did not take {command.op} ({type(exc).__name__}); try again", retry_after_s=2) from None


def result(answer: dict[str, Any]) -> dict[str, Any]:
    """The body of a successful answer record; raises what an unsuccessful one says."""
    status_code, body = answer["status_code"], answer["body"]
    if status_code < 400:
        return dict(body)
    raise from_status(status_code, str(body.get("message", "")), retry_after_s=answer.get("retry_after_s"))


async def send_command(settings: Settings, command: Command, timeout_s: float = 10) -> dict[str, Any]:
    """As `exchange`, with connections of its own: for programs that have none. Raises also KafkaError when there is no broker."""
    producer = new_producer(settings, "sluice-command")
    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="latest",
        fetch_max_wait_ms=100, max_partition_fetch_bytes=MAX_REQUEST_BYTES,
    )  # fmt: skip
    await producer.start()
    try:
        await consumer.start()
        try:
            partition = TopicPartition(topics.RESPONSES.name, command.reply_partition)
            consumer.assign([partition])
            # The position must stand before the command goes out, else the answer could lie before it.
            await consumer.seek_to_end(partition)
            await consumer.position(partition)
            return await exchange(producer, _OwnAnswers(consumer), command, timeout_s)
        finally:
            await stop_consumer(consumer)
    finally:
        await stop_producer(producer)


class _OwnAnswers:
    """Answers read with a consumer that serves one command only."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    @contextlib.contextmanager
    def expecting(self, request_id: str) -> Iterator[asyncio.Future[dict[str, Any]]]:
        task = asyncio.ensure_future(self._find(request_id))
        try:
            yield task
        finally:
            task.cancel()

    async def _find(self, request_id: str) -> dict[str, Any]:
        async for record in self._consumer:
            if record.key == request_id.encode() and record.value:
                answer: dict[str, Any] = orjson.loads(record.value)
                return answer
        raise Unavailable("the connection to the broker ended before an answer came; try again", retry_after_s=2)
