"""Reads the answers of finished requests from their records, all that are asked for at the same time in one pass through the log.

After a rebalance a worker may have to repeat thousands of answers: what was finished and not yet committed comes again. Read one by
one they would take longer than the next rebalance.

An answer that retention has deleted is None. Fails with TimeoutError where the log can't be read; it decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.kafka.connection import client_options, stop_consumer
from pipeline.records import AnswerRecord
from pipeline.settings import Settings
from pipeline.topics import RECORDS

READ_TIMEOUT_S = 30.0
AT_ONCE = 500
# Records between two that are wanted are read over up to this number; beyond it the reader goes there by its offset.
READ_OVER = 2_000

Place = tuple[int, int]


class StoredAnswers:
    """One reader for all partitions of this worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: Any = None
        self._wanted: dict[Place, asyncio.Future[bytes | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._reader = AIOKafkaConsumer(
            **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        await self._reader.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._reader is not None:
            await stop_consumer(self._reader)

    async def answer(self, partition: int, offset: int) -> AnswerRecord | None:
        """The answer in the record at this place of gateway.records, None where it is no longer there. Raises TimeoutError."""
        wanted = self._wanted.get((partition, offset))
        if wanted is None:
            wanted = self._wanted[partition, offset] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_wanted(), name="read answers")
        async with asyncio.timeout(READ_TIMEOUT_S):
            value = await asyncio.shield(wanted)
        return _answer(value) if value is not None else None

    async def _read_wanted(self) -> None:
        while self._wanted:
            batch: dict[TopicPartition, set[int]] = defaultdict(set)
            for partition, offset in self._wanted:
                batch[TopicPartition(RECORDS.name, partition)].add(offset)
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await self._read(dict(batch))
            except TimeoutError:
                # Whoever waits for these gives up as well.
                for place, offsets in batch.items():
                    for offset in offsets:
                        self._settle(place.partition, offset, None, TimeoutError(f"{place.topic}[{place.partition}] could not be read"))

    async def _read(self, left: dict[TopicPartition, set[int]]) -> None:
        """One pass: each partition from the first offset that is wanted to the last."""
        reader = self._reader
        reader.assign(list(left))
        for place, offsets in left.items():
            reader.seek(place, min(offsets))
        while left:
            for place, records in (await reader.getmany(timeout_ms=1_000, max_records=AT_ONCE)).items():
                offsets = left.get(place, set())
                for record in records:
                    if record.offset in offsets:
                        offsets.discard(record.offset)
                        self._settle(place.partition, record.offset, record.value)
                self._go_on(place, offsets, records[-1].offset + 1)
                if not offsets:
                    left.pop(place, None)
                    reader.pause(place)
        reader.assign([])

    def _go_on(self, place: TopicPartition, offsets: set[int], position: int) -> None:
        """What lies before `position` and was not there is deleted; a long way to the next one is not read over."""
        for offset in {o for o in offsets if o < position}:
            offsets.discard(offset)
            self._settle(place.partition, offset, None)
        if offsets and min(offsets) - position > READ_OVER:
            self._reader.seek(place, min(offsets))

    def _settle(self, partition: int, offset: int, value: bytes | None, error: Exception | None = None) -> None:
        wanted = self._wanted.pop((partition, offset), None)
        if wanted is None or wanted.done():
            return
        if error is None:
            wanted.set_result(value)
        else:
            wanted.set_exception(error)
            wanted.exception()  # Nobody may be left who waits for it.


def _answer(value: bytes) -> AnswerRecord | None:
    """The answer that was recorded; None where the record was too large to keep it."""
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
    )
