"""Creates the topics, with one partition count and the right settings; the broker itself may not create any.

Safe to run by several processes at once and again: what exists stays. A topic that exists with another partition count is refused
with a clear error, since limits and commits depend on it.
"""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from pipeline import topics
from pipeline.errors import SluiceError
from pipeline.kafka.connection import client_options
from pipeline.settings import Settings


class TopicMismatch(SluiceError):
    """A topic exists, but not as this version needs it."""


def declared(settings: Settings) -> list[topics.Topic]:
    """All topics as this installation wants them: raw text kept as long as the settings say."""
    from dataclasses import replace

    raw_ms = settings.raw_text_retention_s * 1000
    return [replace(t, retention_ms=raw_ms) if t in (topics.REQUESTS, topics.ADMITTED) else t for t in topics.ALL]


async def create_topics(settings: Settings, extra: list[topics.Topic] | None = None) -> list[str]:
    """Create what is missing; returns the names of the topics that were made. Raises TopicMismatch, or KafkaError."""
    admin = AIOKafkaAdminClient(**client_options(settings), client_id="sluice-admin")
    await admin.start()
    try:
        wanted = [*declared(settings), *(extra or [])]
        existing = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics([]) if not t.get("error_code")}
        for topic in wanted:
            if topic.name in existing and existing[topic.name] != topic.partitions:
                raise TopicMismatch(
                    f"topic {topic.name} has {existing[topic.name]} partitions, this version needs {topic.partitions}; "
                    "use another cluster, or delete the topic while nothing runs"
                )
        made = []
        for topic in wanted:
            if topic.name in existing:
                continue
            new = NewTopic(topic.name, topic.partitions, settings.kafka_replication_factor, topic_configs=topic.config())
            try:
                await admin.create_topics([new])
                made.append(topic.name)
            except TopicAlreadyExistsError:
                pass
        return made
    finally:
        await admin.close()
