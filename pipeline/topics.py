"""All Kafka topics, declared once: name, what the key is, how many partitions, how long it keeps, who stamps the time.

Decides nothing at run time and imports only the standard library, so that workers, ingress and Spark jobs share it.
The names are the contract's (part 3). Everything that is counted or co-owned has COUNTED_PARTITIONS partitions, so that
one worker owns partition *p* of requests, admitted and cancellations alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

COUNTED_PARTITIONS = 16
REPLY_PARTITIONS = 8
MAX_RECORD_BYTES = 16 * 1024 * 1024
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as the admin creates it. `retention_ms` None: compacted, kept for ever; `compacted` with a time: both."""

    name: str
    key: str
    partitions: int
    retention_ms: int | None
    log_append_time: bool = False
    compacted: bool = False
    extra_config: dict[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """The broker's settings for this topic."""
        config = {"max.message.bytes": str(MAX_RECORD_BYTES + 65_536), **self.extra_config}
        if self.retention_ms is None:
            config["cleanup.policy"] = "compact"
        else:
            config |= {"cleanup.policy": "compact,delete" if self.compacted else "delete", "retention.ms": str(self.retention_ms)}
            # Retention only removes whole closed segments, so a segment may not stay open longer than what it holds.
            config["segment.ms"] = str(max(min(self.retention_ms, DAY_MS), 60_000))
            # What is over its time goes at once, not a minute later.
            config["file.delete.delay.ms"] = "1000"
        if self.log_append_time:
            config["message.timestamp.type"] = "LogAppendTime"
        return config


COMMANDS = Topic("gateway.commands", "-", 1, 7 * DAY_MS, log_append_time=True)
ENDPOINTS = Topic("gateway.endpoints", "endpoint name", 1, None)
TOKENS = Topic("gateway.tokens", "token hash", 1, None)
# Raw text lies in requests and admitted only: an hour, unless set otherwise.
REQUESTS = Topic("gateway.requests", "endpoint name", COUNTED_PARTITIONS, HOUR_MS, log_append_time=True)
ADMITTED = Topic("gateway.admitted", "request id", COUNTED_PARTITIONS, HOUR_MS)
CANCELLATIONS = Topic("gateway.cancellations", "request id", COUNTED_PARTITIONS, HOUR_MS)
RESPONSES = Topic("gateway.responses", "request id", REPLY_PARTITIONS, HOUR_MS)
# Longer than the longest outage of the table job that must lose nothing.
RECORDS = Topic("gateway.records", "request id", COUNTED_PARTITIONS, 7 * DAY_MS)
DEAD_LETTERS = Topic("gateway.dead-letters", "-", 1, 7 * DAY_MS)

ALL = (COMMANDS, ENDPOINTS, TOKENS, REQUESTS, ADMITTED, CANCELLATIONS, RESPONSES, RECORDS, DEAD_LETTERS)

# The Faust application's id: the consumer group of all workers, and the prefix of the tables' changelog topics.
WORKER_GROUP = "sluice"
