"""What `sluice doctor` looks at on Kafka: does the broker answer, are the topics right, do all keep up, are configurations readable.

It reads only, joins no consumer group, and reports findings instead of raising.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.endpoints import Endpoint, Token
from pipeline.kafka.admin import declared
from pipeline.kafka.connection import client_options
from pipeline.kafka.follower import Follower
from pipeline.settings import Settings
from pipeline.stack.finding import Finding

TIMEOUT_S = 15.0
# More events than a worker takes a few seconds for.
MUCH_LAG = 1_000
COUNTED = (topics.REQUESTS, topics.ADMITTED, topics.COMMANDS)


async def examine(settings: Settings) -> list[Finding]:
    """All findings on the cluster that the settings name."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _examine(settings)
    except (KafkaError, OSError, TimeoutError, ValueError) as exc:
        reason = str(exc).strip() or type(exc).__name__
        return [
            Finding(
                "bad",
                f"no broker answers at {settings.kafka} ({reason}); start the stack with `sluice up`, or name the cluster with --kafka",
            ),
            Finding("hint", "topics, lag and configurations were not looked at: they need the broker"),
        ]


async def _examine(settings: Settings) -> list[Finding]:
    admin = AIOKafkaAdminClient(**client_options(settings) | {"request_timeout_ms": 5_000}, client_id="sluice-doctor")
    await admin.start()
    try:
        existing = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(None) if not t.get("error_code")}
        findings = [Finding("good", f"the broker at {settings.kafka} answers"), *_topics(settings, existing)]
        if any(f.level == "bad" for f in findings):
            return findings
        findings += await _workers(admin)
        findings += await _lag(settings, admin)
    finally:
        await admin.close()
    return [*findings, *await _configurations(settings)]


def _topics(settings: Settings, existing: dict[str, int]) -> Iterator[Finding]:
    wanted = declared(settings)
    missing = [t.name for t in wanted if t.name not in existing]
    if missing:
        yield Finding("bad", f"topics are missing: {', '.join(missing)}; any part makes them when it starts, if it may create topics")
    for topic in wanted:
        have = existing.get(topic.name, topic.partitions)
        if have != topic.partitions:
            yield Finding("bad", f"topic {topic.name} has {have} partitions and needs {topic.partitions}; delete it while nothing runs")
    if not missing:
        yield Finding("good", f"{len(wanted)} topics")


async def _workers(admin: AIOKafkaAdminClient) -> list[Finding]:
    [response] = await admin.describe_consumer_groups([topics.WORKER_GROUP])
    group = response.groups[0]
    state, members = group[2] or "unknown", len(group[5])
    if not members:
        return [Finding("bad", f"no worker is in the consumer group '{topics.WORKER_GROUP}' ({state}); start one: sluice worker")]
    if state != "Stable":
        return [Finding("hint", f"the {members} workers are sharing out their partitions ({state}); look again in a few seconds")]
    return [Finding("good", f"{members} worker{'s' if members > 1 else ''} in the consumer group '{topics.WORKER_GROUP}'")]


async def _lag(settings: Settings, admin: AIOKafkaAdminClient) -> list[Finding]:
    """How far the workers' committed positions are behind the ends of what they read."""
    committed = await admin.list_consumer_group_offsets(topics.WORKER_GROUP)
    places = [TopicPartition(t.name, p) for t in COUNTED for p in range(t.partitions)]
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
    finally:
        await consumer.stop()
    findings = []
    for topic in COUNTED:
        lag = 0
        for place in (p for p in places if p.topic == topic.name):
            position = committed[place].offset if place in committed and committed[place].offset >= 0 else begins[place]
            lag += max(0, ends[place] - max(position, begins[place]))
        if lag > MUCH_LAG:
            findings.append(Finding("bad", f"the workers are {lag} records behind on {topic.name}; start more of them, or see their logs"))
        else:
            findings.append(Finding("good", f"{topic.name}: {lag} records behind"))
    return findings


async def _configurations(settings: Settings) -> list[Finding]:
    """Records that can't be read, and what people tend to miss in those that can."""
    findings = []
    endpoints = Follower(settings, topics.ENDPOINTS, Endpoint.model_validate_json)
    tokens = Follower(settings, topics.TOKENS, Token.model_validate_json)
    for follower, what in ((endpoints, "endpoint"), (tokens, "token")):
        try:
            await follower.start()
            findings += [
                Finding(
                    "bad",
                    f"the record of {what} {key!r} can't be read: {why}; the last good one stays in force; save it again, or delete it",
                )
                for key, why in sorted(follower.bad.items())
            ]
        finally:
            await follower.stop()
    for endpoint in endpoints.all():
        if not endpoint.usage_tracking:
            findings.append(
                Finding(
                    "hint", f"endpoint {endpoint.name}: usage tracking is off, so its requests don't show in system.serving.endpoint_usage"
                )
            )
        table = endpoint.ai_gateway.inference_table_config
        if not (table and table.enabled):
            findings.append(Finding("hint", f"endpoint {endpoint.name}: no inference table, so its requests and answers are not logged"))
    findings.append(Finding("good", f"{len(endpoints.all())} endpoints, {len(tokens.all())} tokens"))
    return findings
