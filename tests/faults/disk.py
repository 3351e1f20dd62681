"""The disk is full, for one part of the stack: none of its files may grow any more (RLIMIT_FSIZE, so a write ends in the middle), and
whatever is started in its place finds the disk as full. Then there is room again.

kafka     a broker whose log can't be written ends itself; the gateway refuses requests, and says why
tables    the table job's driver can write neither tables nor checkpoint; requests are served, their rows wait
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.faults.troubles import BACK_S, AtMoments, back
from tests.running import Stack

FULL_S = 12.0
# So much may still be written: the end of a batch is cut off, not its beginning.
LEFT_BYTES = 1_000
CHAT = {"messages": [{"role": "user", "content": "is there room"}]}


class FullDisks(AtMoments):
    """Each part's disk is full `times` times, for FULL_S at least. `refused`: what was answered meanwhile; `unready`: what /readyz said."""

    def __init__(self, stack: Stack, times: int, count: int, seed: int, answered: Callable[[], int]) -> None:
        super().__init__(stack, ["kafka", "tables"] * times, count, answered)
        self.refused: list[int] = []
        self.unready: list[str] = []
        self.tables_unready = False
        stack.create_endpoint("disk-asked")

    async def _happens(self, what: str) -> None:
        limit_bytes = 0 if what == "tables" else _largest(self._stack.data / "kafka" / "log") + LEFT_BYTES
        began_s, gone = time.monotonic(), False
        asking = asyncio.create_task(self._ask()) if what == "kafka" else None
        restarts = self._stack.state().parts[what].restarts
        limited: set[int] = set()
        try:
            # Until it has ended for want of room, which a slow machine finds out late.
            while time.monotonic() < began_s + FULL_S or not gone:
                assert time.monotonic() < began_s + BACK_S, f"{what} goes on though its disk is full"
                part = self._stack.state().parts[what]
                gone |= part.restarts > restarts or not part.ready
                self.tables_unready |= what == "tables" and not part.ready
                if part.pid is not None:
                    limited |= _limit(part.pid, limit_bytes)
                await asyncio.sleep(0.02)
        finally:
            for pid in limited:
                _set(pid, resource.RLIM_INFINITY)
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        await back(self._stack, what, restarts)

    async def _ask(self) -> None:
        headers = {"authorization": f"Bearer {self._stack.admin_token}"}
        async with httpx.AsyncClient(base_url=self._stack.host, headers=headers, timeout=2, trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    ready = await http.get("/readyz")
                    if ready.status_code == 503:
                        self.unready += ready.json()["missing"]
                        self.refused.append((await http.post("/serving-endpoints/disk-asked/invocations", json=CHAT)).status_code)
                await asyncio.sleep(0.2)


def _largest(folder: Path) -> int:
    """The size of the requests' largest segment: it is the next to reach the limit."""
    return max(segment.stat().st_size for segment in folder.glob("gateway.requests-*/*.log"))


def _limit(leader: int, limit_bytes: int) -> set[int]:
    """Limit the files of all processes of this process' group; which these are."""
    group = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(int(entry.name)) == leader:
                _set(int(entry.name), limit_bytes)
                group.add(int(entry.name))
    return group


def _set(pid: int, limit_bytes: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
