"""The table job in the test's own process, and what tests put before it: records of requests and of endpoints."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka.structs import RecordMetadata

from jobs.session import spark_session
from jobs.table_job import TableJob
from pipeline.endpoints import Endpoint
from pipeline.kafka.connection import new_producer
from pipeline.records import InferenceRecord, InferenceTable
from pipeline.settings import Settings
from pipeline.topics import ENDPOINTS, RECORDS
from tests.jobs.recount import Rows

NOW_MS = int(time.time() * 1000)
Message = tuple[str, bytes | None, bytes | None]


class RunningJob:
    """Steps the job in the test's thread, so that a test decides what has been spread and what has only landed."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.warehouse = settings, settings.warehouse_dir
        self.spark = spark_session(settings, micro_batches=True)
        self.table_job: TableJob | None = None

    def start(self) -> None:
        """A new run, as after a restart of the process."""
        assert self.table_job is None
        self.table_job = TableJob(self.settings, self.spark)

    def crash(self) -> None:
        """The run ends at once: what has landed is not spread any more."""
        if self.table_job is not None:
            if self.table_job.alerts:
                self.table_job.alerts.stop()
            self.table_job.query.stop()
            self.table_job = None

    def restart(self, between: Callable[[], None] = lambda: None) -> None:
        """Crash, do something to what lies on disk, start again."""
        self.crash()
        between()
        self.start()

    @property
    def run(self) -> TableJob:
        """The present run."""
        assert self.table_job is not None
        return self.table_job

    def land(self) -> None:
        """Return when everything that lies in Kafka has landed."""
        self.run.query.processAllAvailable()

    def until(self, condition: Callable[[], Any], timeout_s: float = 40.0) -> None:
        """Step until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s; still to be written: {self.run.fanout.work}"
            self.run.step(0.05)

    def settle(self, timeout_s: float = 90.0) -> None:
        """Return when everything that lies in Kafka is in its tables."""
        self.land()
        self.until(lambda: self.run._landed.empty() and not self.run.fanout.work, timeout_s)

    def produce(self, messages: Iterable[Message | InferenceRecord | Endpoint], timestamp_ms: int | None = None) -> list[RecordMetadata]:
        """Put them into Kafka in this order; returns where each lies."""
        return produce(self.settings, messages, timestamp_ms)

    def rows(self, table: str, where: str = "true") -> Rows:
        """The rows of a table; its folder must be there."""
        read = self.spark.read.format("delta").load(str(self.warehouse.joinpath(*table.split("."))))
        return [row.asDict(recursive=True) for row in read.where(where).collect()]

    def status(self) -> dict[str, Any]:
        """What the job says of itself."""
        told: dict[str, Any] = json.loads((self.settings.data / "status" / "tables.json").read_text())
        return told


def produce(
    settings: Settings, messages: Iterable[Message | InferenceRecord | Endpoint], timestamp_ms: int | None = None
) -> list[RecordMetadata]:
    """Put them into Kafka in this order; returns where each lies."""

    async def send() -> list[RecordMetadata]:
        producer = new_producer(settings, "test")
        await producer.start()
        try:
            sent = []
            for topic, key, value in map(message_of, messages):
                sent.append(await producer.send_and_wait(topic, value, key=key, timestamp_ms=timestamp_ms))
            return sent
        finally:
            await producer.stop()

    return asyncio.run(send())


def message_of(thing: Message | InferenceRecord | Endpoint) -> Message:
    """Topic, key and value."""
    if isinstance(thing, InferenceRecord):
        return RECORDS.name, thing.request_id.encode(), thing.model_dump_json().encode()
    if isinstance(thing, Endpoint):
        return ENDPOINTS.name, thing.name.encode(), thing.model_dump_json().encode()
    return thing


def record(table: tuple[str, str, str] | None = None, **fields: Any) -> InferenceRecord:
    """A record of an answered request, but for `fields`; `table`: catalog, schema and prefix."""
    where = InferenceTable(catalog_name=table[0], schema_name=table[1], table_name_prefix=table[2]) if table else None
    usual: dict[str, Any] = {
        "request_id": str(uuid.uuid4()), "run_id": "1", "timestamp_ms": NOW_MS, "endpoint_name": "tests", "requester": "alice@example.com",
        "task": "llm/v1/chat",
        "request": '{"messages":[{"role":"user","content":"hello"}]}', "response": '{"choices":[]}', "status_code": 200,
        "finish": "ok", "execution_time_ms": 12, "input_tokens": 3, "output_tokens": 5,
    }  # fmt: skip
    return InferenceRecord(**{**usual, "inference_table": where, **fields})


_REVISIONS = itertools.count(1)


def endpoint(
    name: str, table: tuple[str, str, str] | None = None, entities: tuple[str, ...] = ("first",), usage: bool = True, **fields: Any
) -> Endpoint:
    """An endpoint as the control agent writes it."""
    number = next(_REVISIONS)
    gateway: dict[str, Any] = {"usage_tracking_config": {"enabled": usage}}
    if table:
        names = {"catalog_name": table[0], "schema_name": table[1], "table_name_prefix": table[2]}
        gateway["inference_table_config"] = {**names, "enabled": True}
    external = {"name": "gpt-4o", "provider": "openai", "task": "llm/v1/chat", "openai_config": {}}
    usual: dict[str, Any] = {
        "name": name, "endpoint_id": f"id-of-{name}", "creator": "admin", "creation_timestamp": NOW_MS + number,
        "last_updated_timestamp": NOW_MS + number, "revision": number, "config_version": 1, "command_id": str(uuid.uuid4()),
        "config": {"served_entities": [{"name": entity, "external_model": external} for entity in entities]}, "ai_gateway": gateway,
        "tags": [{"key": "team", "value": "search"}],
    }  # fmt: skip
    return Endpoint.model_validate({**usual, **fields})


def ids(rows: Rows) -> list[str]:
    """The request ids, sorted."""
    return sorted(row["request_id"] for row in rows)
