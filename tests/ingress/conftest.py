"""The broker of the tests that run an ingress without workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pipeline.stack.jars import find_java, kafka_jars
from pipeline.stack.kafka_server import KafkaServer
from pipeline.stack.ports import free_port
from tests.ingress.alone import furnish


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker with the topics, one endpoint and alice's token."""
    server = KafkaServer(tmp_path_factory.mktemp("broker"), free_port(), find_java(), kafka_jars())
    server.start()
    try:
        asyncio.run(furnish(server))
        yield server
    finally:
        server.stop()
