"""Incremental fetch sessions (KIP-227) for aiokafka, whose consumer names every partition in every fetch and finds it in every answer.

With a session the broker remembers what is asked for: a request names what has changed since the last one, an answer holds what has
something to tell. For a worker with a hundred partitions that is most of the work of a fetch, on both sides.

It stands between the consumer's fetcher and its client. Whatever goes wrong (a connection, a broker that has forgotten the session, a
fetch that was cancelled) ends the session, and the next fetch names everything again. It decides nothing about offsets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

Place = tuple[str, int]
LAST_EPOCH = 2**31 - 1
FIRST_VERSION = 7


class _Session:
    """What one broker has been asked for so far. `session_id` 0: it keeps none."""

    def __init__(self) -> None:
        self.session_id = 0
        self.epoch = 0
        self.offsets: dict[Place, int] = {}


class _SessionRequest(FetchRequest):
    """A fetch within a session: `topics` is what changed, `forgotten` what is no longer wanted."""

    def __init__(self, whole: FetchRequest, topics: Any, session: _Session, forgotten: list[tuple[str, list[int]]]) -> None:
        super().__init__(
            whole._max_wait_ms, whole._min_bytes, whole._max_bytes, whole._isolation_level, topics, rack_id=whole._rack_id
        )  # fmt: skip
        self._whole, self._session, self._forgotten = whole, session, forgotten

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class.API_VERSION < FIRST_VERSION:
            return self._whole.build(request_struct_class)
        built: Any = super().build(request_struct_class)
        built.session_id, built.session_epoch = self._session.session_id, self._session.epoch
        built.forgotten_topics_data = self._forgotten
        return built


class FetchSessions:
    """Takes the place of an AIOKafkaClient's `send`."""

    def __init__(self, send: Callable[..., Awaitable[Any]]) -> None:
        self._send = send
        self._sessions: dict[int, _Session] = {}

    async def __call__(self, node_id: int, request: Any, **kwargs: Any) -> Any:
        """Send any request; a fetch becomes one of the node's session."""
        if not isinstance(request, FetchRequest):
            return await self._send(node_id, request, **kwargs)
        session = self._sessions.get(node_id) or _Session()
        # Until its answer is here, nobody knows what the broker has made of it.
        self._sessions[node_id] = _Session()
        offsets, incremental = self._request(request, session)
        response = await self._send(node_id, incremental, **kwargs)
        if response.API_VERSION >= FIRST_VERSION and response.error_code == 0:
            session.session_id, session.offsets = response.session_id, offsets
            session.epoch = 0 if not response.session_id else session.epoch + 1 if session.epoch < LAST_EPOCH else 1
            self._sessions[node_id] = session
        return response

    def _request(self, whole: FetchRequest, session: _Session) -> tuple[dict[Place, int], _SessionRequest]:
        """What is wanted from now on, and the request that tells the broker so."""
        offsets: dict[Place, int] = {}
        changed = []
        known = session.offsets if session.epoch else {}
        for topic, partitions in whole.topics:
            news = []
            for partition in partitions:
                place = topic, partition[0]
                offsets[place] = partition[1]
                if known.get(place) != partition[1]:
                    news.append(partition)
            if news:
                changed.append((topic, news))
        forgotten: dict[str, list[int]] = {}
        for topic, number in known.keys() - offsets.keys():
            forgotten.setdefault(topic, []).append(number)
        return offsets, _SessionRequest(whole, changed, session, list(forgotten.items()))
