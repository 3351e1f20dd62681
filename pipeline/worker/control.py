"""The control agent: gateway.commands -> gateway.endpoints and gateway.tokens. The one writer of all configuration.

One command at a time: read what stands (up to the topics' ends, so that the change of a former owner of this partition is
seen), let core/commands.py decide, write, wait until the write is acknowledged, answer. A command that comes again after a
crash is recognised by its id. Bytes that are no command go to gateway.dead-letters.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from pydantic import ValidationError

from pipeline.core.commands import Command, apply
from pipeline.endpoints import Endpoint, Token
from pipeline.kafka.follower import Follower
from pipeline.records import AnswerRecord, DeadLetter
from pipeline.worker.out import Out

log = logging.getLogger(__name__)


class Control:
    """`endpoints` and `tokens` follow what this agent writes."""

    def __init__(self, out: Out, endpoints: Follower[Endpoint], tokens: Follower[Token]) -> None:
        self._out, self._endpoints, self._tokens = out, endpoints, tokens

    async def __call__(self, stream: Any) -> None:
        """The agent's body."""
        async for event in stream.noack().events():
            try:
                await self._handle(event)
            except (KafkaError, ProducerSendError, TimeoutError):
                # Not acked: the command comes again.
                log.exception("control could not apply the command at offset %d", event.message.offset)
                continue
            event.ack()

    async def _handle(self, event: Any) -> None:
        message = event.message
        value: bytes = event.value or b""
        try:
            command = Command.model_validate_json(value)
        except ValidationError:
            await self._out.dead_letter(
                DeadLetter(
                    reason="the record is no command",
                    topic=message.topic,
                    partition=message.partition,
                    offset=message.offset,
                    timestamp_ms=int(message.timestamp * 1000 + 0.5),
                    value_base64=base64.b64encode(value).decode() if value else None,
                )
            )
            return
        await self._endpoints.catch_up()
        await self._tokens.catch_up()
        outcome = apply(
            command,
            self._endpoints.get(command.key),
            self._tokens.get(command.key),
            # Offsets count from 0, and revision 0 means "none seen".
            revision=message.offset + 1,
            now_ms=int(message.timestamp * 1000 + 0.5),
        )
        if outcome.topic is not None:
            await (await self._out.configuration(outcome.topic, outcome.key, outcome.value, message.offset + 1))
        answer = AnswerRecord(request_id=command.command_id, status_code=outcome.status_code, body=outcome.body)
        await (await self._out.command_answer(command.command_id, command.reply_partition, answer))
