"""The envelope: what travels beside a request's bytes, in one Kafka header, so that nobody on the way has to read the body.

Written by the ingress, or by `admit` for a plain producer that sends none; carried unchanged to `serve`. The header is named
`sluice-envelope` and holds JSON with a version. A reader ignores fields it does not know; a header that is missing or is
not such JSON counts as none, and the value is read instead (it is the contract, the header only saves work).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

HEADER = "sluice-envelope"
VERSION = 1
Headers = list[tuple[str, bytes]]
Asker = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Times are epoch milliseconds. `revision` is the configuration the sender had seen (0: none, take the newest).

    `appended_ms` is when the broker first took the request: 0 until `admit` has read the record's LogAppendTime.
    `forwarded` marks a record that `admit` has moved to the partition where its endpoint is counted.
    `reply_partition` -1: any partition of the reply topic.
    """

    request_id: str
    endpoint: str
    user: str
    groups: tuple[str, ...] = ()
    deadline_ms: int = 0
    appended_ms: int = 0
    revision: int = 0
    reply_to: str = ""
    reply_partition: int = -1
    forwarded: bool = False
    # Under which id a refusal by `admit` is answered and recorded; empty: the request's own. Under an Idempotency-Key each try has one,
    # so that a repeat which a limit refuses neither takes the place of the request in the tables nor its answer.
    refused_id: str = ""
    # The logged request that this one is a replay of; empty: it is none. Limits neither count nor refuse a replayed request.
    replay_of: str = ""
    # What the limits left over, for the answer's x-ratelimit-* headers; set by `admit`.
    rate_limit: dict[str, int] | None = None

    def header(self) -> tuple[str, bytes]:
        """The Kafka header that carries this envelope."""
        return HEADER, orjson.dumps({"v": VERSION, **{name: getattr(self, name) for name in _FIELDS}})

    @property
    def asker(self) -> Asker:
        """Who asks from where: the same for a request that is delivered again, another for one that was sent again. Two that the broker
        took in the same millisecond differ by where they want their answer, or one answer is enough for both."""
        return self.reply_to, self.reply_partition, self.appended_ms

    def with_(self, **changes: Any) -> Envelope:
        """A copy with some fields changed."""
        return replace(self, **changes)


_FIELDS = tuple(Envelope.__dataclass_fields__)


def from_headers(headers: Any) -> Envelope | None:
    """The envelope among Kafka headers (pairs, or a mapping, as Faust and aiokafka hand them over), or None."""
    pairs = headers.items() if hasattr(headers, "items") else headers or ()
    for name, value in pairs:
        if name == HEADER:
            return _decode(value)
    return None


def _decode(value: bytes | None) -> Envelope | None:
    try:
        fields = orjson.loads(value or b"")
        if fields["v"] != VERSION:
            return None
        envelope = Envelope(**{k: fields[k] for k in _FIELDS if k in fields})
    except (ValueError, TypeError, KeyError):
        return None
    texts = (envelope.request_id, envelope.endpoint, envelope.user, envelope.reply_to, envelope.refused_id, envelope.replay_of)
    numbers = (envelope.deadline_ms, envelope.appended_ms, envelope.revision, envelope.reply_partition)
    if not all(isinstance(t, str) for t in texts) or not all(type(n) is int for n in numbers):
        return None
    if not envelope.request_id or not envelope.endpoint:
        return None
    return replace(envelope, groups=tuple(str(g) for g in envelope.groups or ()))
