"""What is written to a connection that the broker has closed fails in the way that is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import pipeline.kafka.connection  # noqa: F401  # as every part imports it


async def writes_after_the_end() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        connection = AIOKafkaConnection("127.0.0.1", port)
        connection._reader, connection._writer, connection._versions = reader, writer, {3: (0, 5)}
        connection._read_task = asyncio.create_task(reader.read())
        with pytest.raises(KafkaConnectionError):
            connection.send(MetadataRequest([]))
        assert not connection.connected()


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_closed_connection_is_a_broken_one(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(writes_after_the_end())
