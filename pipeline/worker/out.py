"""What a worker writes to Kafka: one method for each topic, through Faust's one producer.

Every method returns (or awaits) the hand-over to the producer; those that return a future let the caller wait for the broker's
acknowledgement. Nothing here decides. Sizes are checked before sending, since an oversized record would take the producer down:
a record's texts are dropped with a code, an answer must have been checked with `fits`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import faust
import orjson
import uuid_utils

from pipeline import topics
from pipeline.envelope import Envelope, Headers
from pipeline.kafka.follower import REVISION_HEADER
from pipeline.kafka.partitions import partition_of
from pipeline.records import AnswerRecord, DeadLetter, InferenceRecord, StreamEnd, StreamPiece

MARK_HEADER = "sluice-mark"


def encoded(record: AnswerRecord | StreamPiece | StreamEnd | InferenceRecord | DeadLetter) -> bytes:
    """A record's JSON. Records here were built by us, so nothing is validated again."""
    return record.model_dump_json().encode()


def fits(data: bytes) -> bool:
    """Whether the broker takes a value of this size."""
    return len(data) <= topics.MAX_RECORD_BYTES


class Out:
    """`reply_topics` is the installation's allow-list; any other reply topic is answered on gateway.responses.

    `may_write` is called before each write, and ends the process where it may not write any more (watchdog.py).
    """

    def __init__(self, app: faust.App, reply_topics: frozenset[str], may_write: Callable[[], None]) -> None:
        self._app, self.reply_topics, self._may_write = app, reply_topics, may_write

    def now_ms(self) -> int:
        """The wall clock, in epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def new_id(self) -> str:
        """A run id: UUIDv7, so that ids sort by time."""
        return str(uuid_utils.uuid7())

    async def request(self, envelope: Envelope, value: bytes, partition: int) -> None:
        """Forward a misplaced request."""
        await self._send(topics.REQUESTS, envelope.endpoint, value, partition, [envelope.header()])

    async def admitted(self, envelope: Envelope, value: bytes) -> None:
        """Hand an admitted request on to serve, its value unread."""
        partition = partition_of(envelope.request_id, topics.COUNTED_PARTITIONS)
        await self._send(topics.ADMITTED, envelope.request_id, value, partition, [envelope.header()])

    async def record(self, record: InferenceRecord, *, mark: str | None) -> Awaitable[Any]:
        """Write the row's record; `mark` (serve only) makes it the mark that the request is finished."""
        data = encoded(record)
        if not fits(data):
            record.logging_error_codes = [*record.logging_error_codes, "MAX_REQUEST_SIZE_EXCEEDED"]
            record.request = None
            data = encoded(record)
        if not fits(data):
            record.logging_error_codes = [*record.logging_error_codes, "MAX_RESPONSE_SIZE_EXCEEDED"]
            record.response = None
            data = encoded(record)
        headers = [(MARK_HEADER, mark.encode())] if mark else []
        partition = partition_of(record.request_id, topics.COUNTED_PARTITIONS)
        return await self._send(topics.RECORDS, record.request_id, data, partition, headers)

    async def answer(self, envelope: Envelope, answer: AnswerRecord | StreamPiece | StreamEnd) -> Awaitable[Any]:
        """Send the answer, or what makes it up, to where the request wants it: all of one request to the same partition."""
        topic = envelope.reply_to if envelope.reply_to in self.reply_topics else topics.RESPONSES.name
        partition = envelope.reply_partition if envelope.reply_partition >= 0 else None
        if partition is not None and topic == topics.RESPONSES.name and partition >= topics.REPLY_PARTITIONS:
            partition = None
        return await self._produce(topic, envelope.request_id, encoded(answer), partition, [])

    async def command_answer(self, command_id: str, reply_partition: int, answer: AnswerRecord) -> Awaitable[Any]:
        """Answer a control-plane command."""
        partition = reply_partition if 0 <= reply_partition < topics.REPLY_PARTITIONS else 0
        return await self._send(topics.RESPONSES, command_id, encoded(answer), partition, [])

    async def configuration(self, topic: str, key: str, value: bytes | None, revision: int) -> Awaitable[Any]:
        """Write an endpoint or a token; None deletes it. The header tells followers how far they have come."""
        return await self._produce(topic, key, value, 0, [(REVISION_HEADER, str(revision).encode())])

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Set aside what nobody could read."""
        data = encoded(letter)
        if not fits(data):
            letter.value_base64 = None
            letter.reason += " (the bytes are too large to be kept)"
            data = orjson.dumps(letter.model_dump())
        await self._send(topics.DEAD_LETTERS, "", data, 0, [])

    async def _send(self, topic: topics.Topic, key: str, value: bytes, partition: int | None, headers: Headers) -> Awaitable[Any]:
        return await self._produce(topic.name, key, value, partition, headers)

    async def _produce(self, topic: str, key: str, value: bytes | None, partition: int | None, headers: Headers) -> Awaitable[Any]:
        self._may_write()
        delivery: Awaitable[Any] = await self._app.producer.send(topic, key.encode(), value, partition, None, headers)
        return delivery
