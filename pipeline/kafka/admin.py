"""Creates the topics, with one partition count and the right settings; the broker itself may not create any.

Safe to run by several processes at once and again: what exists stays. A topic that exists with another partition count is refused
with a clear error, since limits and commits depend on it.
"""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from pipeline import topics
from pipeline.errors import SluiceError
from pipeline.kafka.connection import client_options
from pipeline.settings import Settings

# A hundred partitions take a small or busy cluster its time.
MAKING_MS = 40_000


class TopicMismatch(SluiceError):
    """A topic exists, but not as this version needs it."""


class TopicsNotMade(SluiceError):
    """The broker refused to make a topic: too few brokers for the replication factor, no permission."""


def declared(settings: Settings) -> list[topics.Topic]:
    """All topics as this installation wants them: raw text kept as long as the settings say."""
    from dataclasses import replace

    raw_ms = settings.raw_text_retention_s * 1000
    return [replace(t, retention_ms=raw_ms) if t in (topics.REQUESTS, topics.ADMITTED) else t for t in topics.ALL]


async def create_topics(settings: Settings, extra: list[topics.Topic] | None = None) -> list[str]:
    """Create what is missing; returns the names of the topics that were made. Raises TopicMismatch, TopicsNotMade, or KafkaError."""
    admin = AIOKafkaAdminClient(**client_options(settings) | {"request_timeout_ms": MAKING_MS}, client_id="sluice-admin")
    await admin.start()
    try:
        wanted = [*declared(settings), *(extra or [])]
        # None asks for all topics; an empty list would ask for none.
        existing = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(None) if not t.get("error_code")}
        for topic in wanted:
            if topic.name in existing and existing[topic.name] != topic.partitions:
                raise TopicMismatch(
                    f"topic {topic.name} has {existing[topic.name]} partitions, this version needs {topic.partitions}; "
                    "use another cluster, or delete the topic while nothing runs"
                )
        missing = [t for t in wanted if t.name not in existing]
        if not missing:
            return []
        factor = settings.kafka_replication_factor
        answer = await admin.create_topics([NewTopic(t.name, t.partitions, factor, topic_configs=t.config()) for t in missing])
        made = []
        # The client raises nothing of its own: each topic's error stands in the answer.
        for name, code, *message in answer.topic_errors:
            error = for_code(code)
            if error is NoError:
                made.append(name)
            elif error is not TopicAlreadyExistsError:
                raise TopicsNotMade(f"topic {name} can't be made: {error.__name__} {' '.join(map(str, message))}".rstrip())
        return made
    finally:
        await admin.close()
