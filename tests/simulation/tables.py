"""Faust's windowed tables as worker/windows.py uses them: values in memory, every change sent to a changelog, recovery from there.

As with Faust's memory store, what belongs to partitions that are another worker's now stays in memory, and a recovery applies the changelog
from where this process has read it to its present end. Changes go through the producer's buffer and are not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
from faust.types import TP


class _Window:
    """Tumbling windows, as faust.windows has them."""

    def __init__(self, size_s: float) -> None:
        self._size_s = size_s

    def current(self, time_s: float) -> tuple[float, float]:
        start_s = time_s // self._size_s * self._size_s
        return start_s, start_s + self._size_s - 0.1


class Table:
    """One windowed table with its changelog."""

    def __init__(self, process: Any, name: str) -> None:
        self._process, self.changelog = process, f"sluice-{name}-changelog"
        self.values: dict[Any, Any] = {}
        self.data = SimpleNamespace(data=self.values)
        self.recovered: list[Callable[[], Any]] = []
        self._read: dict[int, int] = {}
        self.window: Any = None
        self._time: Any = None

    def on_recover(self, callback: Callable[[], Any]) -> None:
        self.recovered.append(callback)

    def tumbling(self, size_s: float) -> Table:
        self.window = _Window(size_s)
        return self

    def relative_to(self, time: Any) -> Table:
        self._time = time
        return self

    @property
    def table(self) -> Table:
        return self

    def __setitem__(self, subject: str, value: Any) -> None:
        self._set((subject, self.window.current(self._time())), value)

    def __delitem__(self, key: Any) -> None:
        del self.values[key]
        self._send(key, None)

    def _set(self, key: Any, value: Any) -> None:
        self.values[key] = value
        self._send(key, value)

    def _send(self, key: Any, value: Any) -> None:
        # Faust takes the partition from the event that the agent is at.
        partition = self._process.admitting.partition
        self._process.producer.buffer.put(
            self.changelog, orjson.dumps(key), None if value is None else orjson.dumps(value), partition, None, []
        )

    def recover(self, partition: int) -> None:
        """Apply what the changelog has by now."""
        log = self._process.broker.log.get(TP(self.changelog, partition), [])
        for record in log[self._read.get(partition, 0) :]:
            subject, window = orjson.loads(record.key or b"[]")
            key = subject, tuple(window)
            if record.value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = orjson.loads(record.value)
        self._read[partition] = len(log)


class Tables:
    """All tables of a process: what `app.Table` makes."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.made: list[Table] = []

    def __call__(self, name: str, **_: Any) -> Table:
        self.made.append(Table(self._process, name))
        return self.made[-1]

    async def recover(self, partitions: frozenset[int]) -> None:
        """Bring the partitions' values up to the changelogs' ends."""
        await asyncio.sleep(self._process.network.delay_s())
        for table in self.made:
            for partition in partitions:
                table.recover(partition)
        for table in self.made:
            for callback in table.recovered:
                await callback()
