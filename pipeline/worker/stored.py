"""Single records of gateway.records, read by their offsets, for answers that are given again.

After a crash all that was finished since the last commit is asked for at once, thousands of records where a long call has held the commit
up: those that are wanted at the same time are read in one pass over the log, from the first to the last, gaps left out. Fails with
TimeoutError where the log can't be read in time; a record that is no longer there is None.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.kafka.connection import client_options
from pipeline.kafka.fetched import forget_fetched
from pipeline.settings import Settings
from pipeline.topics import RECORDS

READ_TIMEOUT_S = 30.0
# What a fetch brings of a partition, or one record where that is larger.
FETCH_BYTES = 256 * 1024
# A gap of more records is skipped, a smaller one read.
FAR = 200
Futures = dict[int, "asyncio.Future[bytes | None]"]


class StoredRecords:
    """`start` once, `read` from any number of tasks, `stop` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: AIOKafkaConsumer | None = None
        # By partition and offset: what the next pass reads.
        self._wanted: dict[int, Futures] = {}
        self._passes: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._reader = AIOKafkaConsumer(
            **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=50, max_partition_fetch_bytes=FETCH_BYTES,
        )  # fmt: skip
        await self._reader.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._passes is not None:
            self._passes.cancel()
            await asyncio.gather(self._passes, return_exceptions=True)
        if self._reader is not None:
            await self._reader.stop()

    async def read(self, partition: int, offset: int) -> bytes | None:
        """The value of this record; None where it is gone or has none. Raises TimeoutError, and KafkaError."""
        futures = self._wanted.setdefault(partition, {})
        if offset not in futures:
            futures[offset] = asyncio.get_running_loop().create_future()
        if self._passes is None or self._passes.done():
            self._passes = asyncio.create_task(self._run())
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await asyncio.shield(futures[offset])

    async def _run(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                await self._pass({TopicPartition(RECORDS.name, partition): dict(futures) for partition, futures in wanted.items()})
            except Exception as exc:
                for future in (future for futures in wanted.values() for future in futures.values() if not future.done()):
                    future.set_exception(exc)
                    # Whoever waited may have given up.
                    future.exception()

    async def _pass(self, places: dict[TopicPartition, Futures]) -> None:
        reader, all_places = self._reader, list(places)
        assert reader is not None
        reader.assign(all_places)
        try:
            for place, futures in places.items():
                reader.seek(place, min(futures))
            while places:
                for place, records in (await reader.getmany(*places, timeout_ms=1_000)).items():
                    position = _take(places[place], records)
                    if not places[place]:
                        del places[place]
                        reader.pause(place)
                        forget_fetched(reader, [place])
                    elif (following := min(places[place])) > position + FAR:
                        forget_fetched(reader, [place])
                        reader.seek(place, following)
        finally:
            forget_fetched(reader, all_places)
            reader.assign([])


def _take(futures: Futures, records: list[Any]) -> int:
    """Settle what these records, in their order, tell of; the offset that comes after them."""
    for record in records:
        if record.offset in futures:
            _settle(futures.pop(record.offset), record.value)
    position: int = records[-1].offset + 1
    for offset in [offset for offset in futures if offset < position]:
        _settle(futures.pop(offset), None)
    return position


def _settle(future: asyncio.Future[bytes | None], value: bytes | None) -> None:
    if not future.done():
        future.set_result(value)
