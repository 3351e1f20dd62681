"""Which requests are finished: an index over gateway.records, from which a repeat is answered instead of called again.

The record is the mark. `serve` writes a request's record before its answer, and only a request without a record is run again, so an
answer that a client got always has its row, and there is one outcome for each request id. The index holds, for each owned
partition and for `repeat_window_s` seconds, the request id, the hash of what was asked, and the offset of its record; a worker that takes a
partition over reads it from the log, before the first request of that partition runs.

Fails by waiting: where the log can't be read, the partition's requests wait, and the watchdog ends the worker in the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.envelope import Asker, Headers
from pipeline.kafka.connection import MAX_REQUEST_BYTES, client_options
from pipeline.kafka.fetched import forget_fetched
from pipeline.records import AnswerRecord, ReplayFacts
from pipeline.settings import Settings
from pipeline.topics import RECORDS
from pipeline.worker.out import MARK_HEADER
from pipeline.worker.stored import StoredRecords

log = logging.getLogger(__name__)
# Of those who were answered, for each request; who asks again and again is answered again.
REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A finished request: the hash of what it asked, and where its record lies.

    `answered`: whom this process has answered (`Envelope.asker`); nobody where another process did, or may not have.
    """

    body_hash: str
    offset: int
    finished_s: float
    answered: tuple[Asker, ...] = ()


class FinishedIndex:
    """One index for all partitions of this worker; `load` before `find`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Within its deadline a request that is delivered again would be called again if it were forgotten; after that it is not.
        self._window_s = max(settings.repeat_window_s, settings.deadline_s + settings.session_timeout_s)
        self._marks: dict[int, OrderedDict[str, Mark]] = {}
        self._loaded: dict[int, asyncio.Event] = {}
        self._reader: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()
        # A reader of its own: a take-over must not wait for answers.
        self._stored = StoredRecords(settings)

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._reader = AIOKafkaConsumer(
            **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=50, max_partition_fetch_bytes=MAX_REQUEST_BYTES,
        )  # fmt: skip
        await self._reader.start()
        await self._stored.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._stored.stop()
        if self._reader:
            await self._reader.stop()

    def keep_only(self, partitions: frozenset[int]) -> frozenset[int]:
        """Forget partitions that are no longer ours; returns those that have to be loaded."""
        for partition in set(self._marks) - partitions:
            del self._marks[partition]
            self._loaded.pop(partition, None)
        new = frozenset(p for p in partitions if p not in self._loaded)
        for partition in new:
            self._loaded[partition] = asyncio.Event()
            self._marks[partition] = OrderedDict()
        return new

    async def load(self, partitions: frozenset[int]) -> None:
        """Read the marks of the last `window_s` seconds of these partitions, then let their requests run.

        A partition may be given up meanwhile, and come back: then it is for that next call of `load` to say that all is read.
        """
        if not partitions or self._reader is None:
            return
        started_s = time.monotonic()
        loaded, marks = {p: self._loaded[p] for p in partitions}, {p: self._marks[p] for p in partitions}
        async with self._reading:
            places = [TopicPartition(RECORDS.name, p) for p in partitions]
            since_ms = int((time.time() - self._window_s) * 1000)
            starts = await self._reader.offsets_for_times(dict.fromkeys(places, since_ms))
            ends = await self._reader.end_offsets(places)
            open_places = {p for p in places if starts.get(p) is not None and starts[p].offset < ends[p]}
            self._reader.assign(open_places)
            for place in open_places:
                self._reader.seek(place, starts[place].offset)
            while open_places:
                for place, records in (await self._reader.getmany(timeout_ms=1_000)).items():
                    for record in records:
                        _take(marks[place.partition], (record.key or b"").decode("utf-8", "replace"), record.headers, record.offset,
                              record.timestamp / 1000)  # fmt: skip
                for place in list(open_places):
                    if await self._reader.position(place) >= ends[place]:
                        open_places.discard(place)
                        self._reader.pause(place)
                        forget_fetched(self._reader, [place])
            forget_fetched(self._reader, places)
            self._reader.assign([])
        for event in loaded.values():
            event.set()
        count = sum(len(of_partition) for of_partition in marks.values())
        log.info("took over %d partitions with %d finished requests in %.2f s", len(partitions), count, time.monotonic() - started_s)

    async def ready(self, partition: int) -> None:
        """Wait until the partition's index is loaded."""
        loaded = self._loaded.get(partition)
        if loaded is not None and not loaded.is_set():
            await loaded.wait()

    def find(self, partition: int, request_id: str) -> Mark | None:
        """The mark of a finished request, or None where it is unknown or longer ago than the window."""
        marks = self._marks.get(partition)
        if not marks:
            return None
        oldest_s = time.time() - self._window_s
        while marks:
            first = next(iter(marks))
            if marks[first].finished_s >= oldest_s:
                break
            del marks[first]
        return marks.get(request_id)

    def add(self, partition: int, request_id: str, mark: Mark) -> None:
        """A request of ours is finished."""
        if partition in self._marks:
            self._marks[partition][request_id] = mark

    def answered(self, partition: int, request_id: str, asker: Asker) -> None:
        """A finished request was answered again: the same event needs no third answer when it comes again."""
        marks = self._marks.get(partition)
        if marks and (mark := marks.get(request_id)):
            marks[request_id] = replace(mark, answered=(*mark.answered[1 - REMEMBERED :], asker))

    async def answer(self, partition: int, mark: Mark) -> AnswerRecord | None:
        """The stored answer, made from the request's record; None where it is no longer there. Raises as StoredRecords.read."""
        value = await self._stored.read(partition, mark.offset)
        if value is None:
            return None
        row = orjson.loads(value)
        if row.get("response") is None:
            return None
        return AnswerRecord(
            request_id=row["request_id"],
            status_code=row["status_code"],
            body=orjson.loads(row["response"]),
            served_entity=row["served_entity_name"],
            served_model=row["served_model_name"],
            execution_time_ms=row["execution_time_ms"],
            run_id=row["run_id"],
            attempts=len(row["attempts"]),
            replayed=ReplayFacts.model_validate(row) if row.get("replay_of") else None,
        )


def _take(marks: OrderedDict[str, Mark], request_id: str, headers: Headers, offset: int, finished_s: float) -> None:
    for name, value in headers:
        if name == MARK_HEADER:
            # The first record in the log wins.
            marks.setdefault(request_id, Mark(value.decode("ascii", "replace"), offset, finished_s))
