"""What a seed sends, when, and which faults it meets. Everything is drawn from the world's chance before the first step.

Requests come in bursts, to endpoints without limits, with a limit of the endpoint, and with limits of users besides; some streamed, some
by programs that write no envelope, some in the wrong partition, some twice (a producer's retry), some again later under the same id with
the same or another body, some cancelled. Faults: kill and stop at any step of any process, clients' duplicates, a changed configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from faust.types import TP

from pipeline import topics
from pipeline.endpoints import Endpoint
from pipeline.envelope import Envelope
from pipeline.kafka.follower import REVISION_HEADER
from pipeline.kafka.partitions import partition_of
from tests.simulation.scheduler import FAULTS_S

SENDING_S = 25.0
LIMITS: dict[str, list[dict[str, Any]]] = {
    "free": [],
    "few": [{"renewal_period": "minute", "calls": 4}],
    "each": [{"renewal_period": "minute", "calls": 6}, {"renewal_period": "minute", "calls": 2, "key": "user"}],
    "quick": [{"renewal_period": "second", "calls": 1}, {"renewal_period": "hour", "calls": 5, "key": "user"}],
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One request that the log has taken: where it lies, and what its sender knows."""

    request_id: str
    endpoint: str
    user: str
    prompt: str
    place: tuple[int, int]
    appended_ms: int
    revision: int
    reply_partition: int
    readable: bool


def _endpoint(name: str, limits: list[dict[str, Any]], revision: int) -> bytes:
    entity = {
        "name": "a",
        "external_model": {
            "name": "m", "provider": "custom", "task": "llm/v1/chat",
            "custom_provider_config": {"custom_provider_url": "http://127.0.0.1:1/v1"},
        },
    }  # fmt: skip
    return (
        Endpoint.model_validate(
            {
                "name": name, "endpoint_id": f"id-{name}", "creator": "c", "creation_timestamp": 0, "last_updated_timestamp": 0,
                "revision": revision, "config_version": 1, "command_id": "c",
                "config": {"served_entities": [entity, entity | {"name": "b"}]},
                "ai_gateway": {"rate_limits": limits, "fallback_config": {"enabled": True}},
            }
        )
        .model_dump_json()
        .encode()
    )  # fmt: skip


FIRST = {name: _endpoint(name, limits, place + 1) for place, (name, limits) in enumerate(LIMITS.items())}
# Lower: one that is raised within a window is not exact under replay (docs/simulation.md).
CHANGED_LIMITS = [{"renewal_period": "minute", "calls": 2}]
CHANGED = _endpoint("few", CHANGED_LIMITS, 10)


class Traffic:
    """Plans a run and keeps what was sent. `limits_of` says which limits a request is under, by the revision that it carries."""

    def __init__(self, room: Any) -> None:
        self.room, self.world, self.broker, chance = room, room.world, room.broker, room.world.random
        self.sent: list[Sent] = []
        self.changed_revision, self.last_s = 0, SENDING_S
        for name, value in FIRST.items():
            self._configure(name, value)
        for number in range(chance.randint(8, 18)):
            self._plan(f"r{number}", chance)
        if chance.random() < 0.5:
            changed_s = chance.uniform(2, SENDING_S)
            self.world.later(changed_s, lambda: self._configure("few", CHANGED))
            for number in range(chance.randint(2, 5)):
                # Some come before the workers have heard of the change.
                self._plan(f"c{number}", chance, changed_s + chance.choice((0.001, 0.5, 4.0)) * chance.random(), "few")
        self._plan_faults(chance)

    def _configure(self, name: str, value: bytes) -> None:
        revision = orjson.loads(value)["revision"]
        if revision == 10:
            self.changed_revision = revision
        headers = [(REVISION_HEADER, str(revision).encode())]
        self.broker.append(TP(topics.ENDPOINTS.name, 0), name.encode(), value, headers, 0, "control")

    def limits_of(self, endpoint: str, revision: int) -> list[dict[str, Any]]:
        return CHANGED_LIMITS if endpoint == "few" and revision == 10 else LIMITS.get(endpoint, [])

    def _plan(self, request_id: str, chance: Any, at_s: float = 0.0, endpoint: str = "") -> None:
        # Bursts: most requests come at one of few moments.
        at_s = at_s or chance.choice((6.0, 6.0, 7.0, 12.0, 14.0, 18.0)) + chance.choice((0, 0.001, 0.5, 3.0)) * chance.random()
        unknown = "unknown" if chance.random() < 0.2 else "free"
        endpoint = endpoint or chance.choice(("free", "free", "few", "each", "each", "quick", unknown))
        again: list[tuple[float, str]] = [(at_s, "first")]
        draw = chance.random()
        if draw < 0.15:
            again.append((at_s + 0.0001, "first"))
        elif draw < 0.3:
            again.append((at_s + chance.choice((0.01, 1.0, 8.0, 20.0)), "first"))
        elif draw < 0.35:
            again.append((at_s + chance.choice((0.01, 1.0, 8.0)), "other"))
        user, streamed = chance.choice(("u1", "u2", "u3")), chance.random() < 0.3
        # Only what carries a revision can be judged by one configuration for certain; forwarding would put an older one behind a newer.
        enveloped, right_place = endpoint == "few" or chance.random() < 0.7, endpoint == "few" or chance.random() < 0.85
        self.last_s = max(self.last_s, again[-1][0])
        for when_s, prompt in again:
            reply, readable = chance.randrange(topics.REPLY_PARTITIONS), chance.random() < 0.98
            partition = partition_of(endpoint, topics.COUNTED_PARTITIONS) if right_place else chance.randrange(topics.COUNTED_PARTITIONS)
            send = (request_id, endpoint, user, prompt, streamed, enveloped, partition, reply, readable)
            self.world.later(when_s, lambda send=send: self._send(*send))
        if chance.random() < 0.1:
            self.world.later(at_s + 2 * chance.random(), lambda: self._cancel(request_id))

    def _send(
        self, request_id: str, endpoint: str, user: str, prompt: str, streamed: bool, enveloped: bool, partition: int, reply: int,
        readable: bool,
    ) -> None:  # fmt: skip
        body = {"messages": [{"role": "user", "content": prompt}]} | ({"stream": True} if streamed else {})
        value = orjson.dumps(
            {"request_id": request_id, "endpoint": endpoint, "user": user, "task": "llm/v1/chat", "body": body, "reply_partition": reply}
        )
        revision = (self.changed_revision or 2) if enveloped and endpoint == "few" else 0
        headers = []
        if enveloped:
            headers.append(
                Envelope(request_id, endpoint, user, revision=revision, reply_to=topics.RESPONSES.name, reply_partition=reply).header()
            )
        elif not readable:
            value = b"no request"
        record = self.broker.append(TP(topics.REQUESTS.name, partition), endpoint.encode(), value, headers, 0, "client")
        self.world.tell(f"client: {request_id} to {endpoint} ({prompt}) at {record.partition}@{record.offset}, answer to {reply}")
        place = record.partition, record.offset
        self.sent.append(Sent(request_id, endpoint, user, prompt, place, record.timestamp, revision, reply, enveloped or readable))

    def _cancel(self, request_id: str) -> None:
        tp = TP(topics.CANCELLATIONS.name, partition_of(request_id, topics.COUNTED_PARTITIONS))
        self.broker.append(tp, request_id.encode(), orjson.dumps({"request_id": request_id}), [], 0, "client")

    def _plan_faults(self, chance: Any) -> None:
        storm = chance.random() < 0.3
        for _ in range(chance.choice((0, 1, 2, 2, 3, 4)) + 5 * storm):
            at_s = chance.uniform(5, FAULTS_S - 10) if chance.random() < 0.4 else chance.choice((6.0, 7.0, 12.0, 14.0)) + chance.random()
            kind = chance.choice(("kill", "join", "quit") if storm else ("kill", "stop", "stop", "join"))
            # Around the session, where it matters most who knows what.
            length_s = chance.choice((0.5, 4.0, 7.0, 9.0, 10.0, 12.0, 20.0)) + chance.random()
            plan = kind, chance.randrange(40), length_s
            self.world.later(at_s, lambda plan=plan: self.room.fault(*plan))
