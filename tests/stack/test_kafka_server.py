"""The embedded broker: real Kafka, started and stopped as `sluice up` does it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import topics
from pipeline.kafka.admin import TopicMismatch, TopicsNotMade, create_topics
from pipeline.kafka.connection import client_options, new_producer
from pipeline.settings import Settings
from pipeline.stack.jars import find_java, kafka_jars
from pipeline.stack.kafka_server import KafkaServer
from pipeline.stack.ports import free_port, is_listening
from pipeline.stack.process import PartFailed

READY_S = 30.0


def server(data: Path) -> KafkaServer:
    return KafkaServer(data, free_port(), find_java(), kafka_jars())


async def produce(settings: Settings, values: list[bytes]) -> None:
    producer = new_producer(settings, "test")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topics.COMMANDS.name, value)
    finally:
        await producer.stop()


async def consume(settings: Settings, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, auto_offset_reset="earliest", max_partition_fetch_bytes=17 << 20)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topics.COMMANDS.name, 0)])
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_second_start_finds_topics_and_records_again_even_on_another_port_and_after_a_kill(tmp_path: Path) -> None:
    first = server(tmp_path)
    first.start()
    try:
        await first.wait_ready(READY_S)
        settings = Settings(kafka=first.bootstrap)
        assert set(await create_topics(settings)) == {t.name for t in topics.ALL}
        # The largest record that the contract allows.
        await produce(settings, [b"small", b"x" * topics.MAX_RECORD_BYTES])
        assert first._child is not None
        os.kill(first._child.pid, signal.SIGKILL)
    finally:
        first.stop()
    assert not is_listening("127.0.0.1", first.port)

    second = server(tmp_path)
    second.start()
    try:
        await second.wait_ready(READY_S)
        settings = Settings(kafka=second.bootstrap)
        assert await create_topics(settings) == []
        await produce(settings, [b"later"])
        assert [len(value) for value in await consume(settings, 3)] == [5, topics.MAX_RECORD_BYTES, 5]
    finally:
        second.stop()
    assert not is_listening("127.0.0.1", second.port)


async def test_topics_are_not_made_by_asking_for_them_and_a_wrong_partition_count_is_refused(tmp_path: Path) -> None:
    broker = server(tmp_path)
    broker.start()
    try:
        await broker.wait_ready(READY_S)
        settings = Settings(kafka=broker.bootstrap)
        await create_topics(settings)
        consumer = AIOKafkaConsumer(**client_options(settings))
        await consumer.start()
        try:
            assert "gateway.requests" in await consumer.topics()
            assert not consumer.partitions_for_topic("nobody-made-this")
            assert "nobody-made-this" not in await consumer.topics()
        finally:
            await consumer.stop()
        with pytest.raises(TopicMismatch, match="has 16 partitions, this version needs 3"):
            await create_topics(settings, [topics.Topic("gateway.requests", "-", 3, 1_000_000)])
    finally:
        broker.stop()


async def test_topics_that_the_broker_refuses_are_an_error(tmp_path: Path) -> None:
    broker = server(tmp_path)
    broker.start()
    try:
        await broker.wait_ready(READY_S)
        with pytest.raises(TopicsNotMade, match=r"topic gateway\..* can't be made: InvalidReplicationFactor"):
            await create_topics(Settings(kafka=broker.bootstrap, kafka_replication_factor=3))
    finally:
        broker.stop()


async def test_a_broker_that_can_not_start_says_where_its_log_is(tmp_path: Path) -> None:
    broker = server(tmp_path)
    broker.prepare()
    # Kafka refuses storage of another cluster.
    meta = tmp_path / "kafka" / "log" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    broker.start()
    try:
        with pytest.raises(PartFailed, match=r"ended with code 1 while starting; see .*kafka\.log"):
            await broker.wait_ready(READY_S)
    finally:
        broker.stop()
    assert broker.log.read_text()


async def test_only_this_machine_can_connect(tmp_path: Path) -> None:
    broker = server(tmp_path)
    broker.prepare()
    lines = (tmp_path / "kafka" / "server.properties").read_text().splitlines()
    listeners = [line for line in lines if "listeners=" in line]
    assert len(listeners) == 2
    for line in listeners:
        assert all(place.startswith("127.0.0.1:") for place in (address.split("://")[1] for address in line.split("=")[1].split(",")))
