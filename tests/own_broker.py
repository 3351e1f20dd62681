"""A broker of one's own with all topics, for what needs Kafka and no gateway: the table job's tests and its benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.kafka.admin import create_topics
from pipeline.settings import Settings
from pipeline.stack.jars import find_java, kafka_jars
from pipeline.stack.kafka_server import KafkaServer
from pipeline.stack.ports import free_port

READY_S = 60.0


@contextmanager
def own_broker(data: Path, **settings: Any) -> Iterator[Settings]:
    """While the block runs, a broker in `data`; yields the settings of that data folder, with these besides."""
    broker = KafkaServer(data, free_port(), find_java(), kafka_jars())
    broker.start()
    try:
        asyncio.run(broker.wait_ready(READY_S))
        made = Settings(data=data, kafka=broker.bootstrap, **settings)
        asyncio.run(create_topics(made))
        yield made
    finally:
        broker.stop()
