"""Records of requests as a worker writes them, made up and put straight into gateway.records: for measuring the table job alone.

Four endpoints with inference tables of their own and usage tracking, most requests to the first; fifty users; 1 to 2 KB of request and
response text; one in twenty failed, refused or blocked, some with a finding; one in a thousand a copy of an earlier record.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from pipeline.kafka.connection import MAX_REQUEST_BYTES, client_options
from pipeline.records import Assessment, Attempt, GuardrailRun, InferenceRecord, InferenceTable
from pipeline.settings import Settings
from pipeline.topics import RECORDS

ENDPOINTS = ("assistant", "search", "review", "draft")
SHARES = (80, 10, 6, 4)
CATALOG, SCHEMA = "bench", "ai"
COPY_EVERY = 1_000
KEPT = 20_000
TEXTS = 500
WAIT_FOR = 2_000


class Records:
    """Makes records; `unique` counts them by endpoint without the copies, `made` with them."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._words = ["".join(self._random.choices("abcdefghijklmnoprstuvw", k=self._random.randint(2, 9))) for _ in range(3_000)]
        self._templates = [self._template(endpoint) for endpoint in self._random.choices(ENDPOINTS, SHARES, k=TEXTS)]
        self._lately: list[bytes] = []
        self.unique = dict.fromkeys(ENDPOINTS, 0)
        self.made = 0

    def next(self, timestamp_ms: int) -> tuple[bytes, bytes]:
        """Key and value of the next record, of a request taken at `timestamp_ms`."""
        self.made += 1
        if self.made % COPY_EVERY == 0 and self._lately:
            value = self._random.choice(self._lately)
            return orjson.loads(value)["request_id"].encode(), value
        template = self._random.choice(self._templates)
        request_id = self._uuid7(timestamp_ms)
        took_ms = int(self._random.lognormvariate(6.5, 0.8))
        value = orjson.dumps(
            template | {
                "request_id": request_id, "run_id": request_id, "timestamp_ms": timestamp_ms, "execution_time_ms": took_ms,
                "requester": f"user{self._random.randrange(50)}@example.com",
            }
        )  # fmt: skip
        self.unique[template["endpoint_name"]] += 1
        self._lately.append(value)
        if len(self._lately) > 2 * KEPT:
            del self._lately[:KEPT]
        return request_id.encode(), value

    def _template(self, endpoint: str) -> dict[str, Any]:
        asked, answered = self._text(400, 900), self._text(600, 1_100)
        found = Assessment(assessment_type="PII", assessment_result="BLOCKED", assessment_details="{}", direction="input")
        status, finish = self._random.choices([(200, "ok"), (429, "refused"), (400, "blocked"), (502, "failed")], [95, 2, 2, 1])[0]
        body: dict[str, Any] = {"error_code": finish.upper(), "message": "not answered"}
        if status == 200:
            usage = {
                "prompt_tokens": len(asked) // 4,
                "completion_tokens": len(answered) // 4,
                "total_tokens": (len(asked) + len(answered)) // 4,
            }
            choice = {"index": 0, "message": {"role": "assistant", "content": answered}, "finish_reason": "stop"}
            body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", "choices": [choice], "usage": usage}
        record = InferenceRecord(
            request_id="", run_id="", timestamp_ms=0, endpoint_name=endpoint, endpoint_id=f"id-of-{endpoint}",
            config_version=3, requester="",
            tags={"team": self._random.choice(["search", "support", "research"]), "environment": "production"},
            task="llm/v1/chat", usage_context={"project": self._random.choice("abcdef")},
            request=orjson.dumps({"model": endpoint, "messages": [{"role": "user", "content": asked}], "max_tokens": 500}).decode(),
            response=orjson.dumps(body).decode(), status_code=status, finish=finish, execution_time_ms=0,
            input_tokens=len(asked) // 4 if status == 200 else 0, output_tokens=len(answered) // 4 if status == 200 else 0,
            input_characters=len(asked), output_characters=len(answered) if status == 200 else 0,
            served_entity_name="gpt-4o" if status == 200 else None, served_entity_id=f"id-of-{endpoint}-gpt-4o" if status == 200 else None,
            served_model_name="gpt-4o-2024-08-06" if status == 200 else None,
            attempts=[Attempt(served_entity_name="gpt-4o", status_code=status, execution_time_ms=600)] if status != 429 else [],
            guardrails=[GuardrailRun(assessment_type="PII", direction="input", result="PASSED", duration_ms=0.4)],
            assessments=[found] if finish == "blocked" else [],
            inference_table=InferenceTable(catalog_name=CATALOG, schema_name=SCHEMA, table_name_prefix=endpoint), usage_tracking=True,
        )  # fmt: skip
        return record.model_dump(mode="json")

    def _uuid7(self, timestamp_ms: int) -> str:
        bits = self._random.getrandbits(74)
        return str(uuid.UUID(int=timestamp_ms << 80 | 7 << 76 | bits >> 62 << 64 | 2 << 62 | bits & (1 << 62) - 1))

    def _text(self, shortest: int, longest: int) -> str:
        length = self._random.randint(shortest, longest)
        return " ".join(self._random.choices(self._words, k=length // 5))[:length]


async def produce(settings: Settings, records: Records, count: int, rate: float | None = None, spread_s: float = 0.0) -> None:
    """Put `count` records into Kafka: `rate` a second as of now, or all at once as though they came over the last `spread_s` seconds."""
    producer = AIOKafkaProducer(**client_options(settings), linger_ms=5, max_batch_size=512 * 1024, max_request_size=MAX_REQUEST_BYTES)
    await producer.start()
    try:
        begun_s, waiting = time.time(), []
        for number in range(count):
            at_s = begun_s - spread_s * (1 - number / count)
            if rate is not None:
                at_s = begun_s + number / rate
                if (wait_s := at_s - time.time()) > 0.002:
                    await asyncio.sleep(wait_s)
            key, value = records.next(int(at_s * 1000))
            waiting.append(await producer.send(RECORDS.name, value, key=key))
            if len(waiting) == WAIT_FOR:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
