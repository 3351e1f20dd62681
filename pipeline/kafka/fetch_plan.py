"""What a consumer with many partitions asks for next: the rules of aiokafka's own fetcher, for less work.

aiokafka goes through all assigned partitions and shuffles them, twice for each fetch. Here those that are not wanted now (the tables'
changelogs, once the tables stand) are left out once for each assignment, and nothing is shuffled: within a session (fetch_session.py)
the broker itself takes turns. Reading from followers (KIP-392) is not supported. Decides nothing about offsets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition


class FetchPlan:
    """Takes the place of a Fetcher's `_get_actions_per_node`. `wanted` says of a topic whether it is fetched now."""

    def __init__(self, fetcher: Any, wanted: Callable[[str], bool]) -> None:
        self._fetcher, self._wanted = fetcher, wanted
        self._assignment: Any = None
        self._topics: dict[str, bool] = {}
        self._places: list[tuple[TopicPartition, Any]] = []

    def __call__(self, assignment: Any) -> tuple[Any, ...]:
        """Fetch requests by node, partitions whose position must be asked for by node, seconds to wait, whether a leader is unknown, and
        what tells that a paused partition goes on."""
        fetcher = self._fetcher
        records, in_flight, leader_of = fetcher._records, fetcher._in_flight, fetcher._client.cluster.leader_for_partition
        fetchable: dict[int, dict[str, list[tuple[int, int, int]]]] = {}
        awaiting_reset: defaultdict[int, list[TopicPartition]] = defaultdict(list)
        backoffs: dict[int, float] = {}
        resumed = []
        leader_unknown = False
        for place, state in self._of(assignment):
            node = leader_of(place)
            record = records.get(place)
            if record is not None:
                # Not consumed yet: usually it is soon, but the other partitions don't wait for ever.
                backoff = record.calculate_backoff()
                if backoff:
                    backoffs[node] = max(backoffs.get(node, 0.0), backoff)
            elif node in in_flight:
                continue
            elif node is None or node == -1:
                leader_unknown = True
            elif not state.has_valid_position:
                awaiting_reset[node].append(place)
            elif state.paused:
                resumed.append(state.resume_fut)
            else:
                by_topic = fetchable.setdefault(node, {})
                by_topic.setdefault(place.topic, []).append((place.partition, state.position, fetcher._max_partition_fetch_bytes))
        requests = [
            (node, self._request(by_topic))
            for node, by_topic in fetchable.items()
            if node not in backoffs and node not in awaiting_reset
        ]  # fmt: skip
        return requests, awaiting_reset, min(backoffs.values(), default=fetcher._fetcher_timeout), leader_unknown, resumed

    def _of(self, assignment: Any) -> list[tuple[TopicPartition, Any]]:
        topics = {topic: self._wanted(topic) for topic in self._topics} if assignment is self._assignment else {}
        if not topics or topics != self._topics:
            self._assignment = assignment
            self._topics = {place.topic: self._wanted(place.topic) for place in assignment.tps}
            self._places = [(place, assignment.state_value(place)) for place in assignment.tps if self._topics[place.topic]]
        return self._places

    def _request(self, by_topic: dict[str, list[tuple[int, int, int]]]) -> FetchRequest:
        fetcher = self._fetcher
        return FetchRequest(
            fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes, fetcher._fetch_max_bytes, fetcher._isolation_level, list(by_topic.items())
        )  # fmt: skip
