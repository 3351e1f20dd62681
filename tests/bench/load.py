"""The load: so many clients that each send their next request when they have the answer to the last, over plain keep-alive HTTP/1.1.

`python -m tests.bench.load` reads its plan as JSON from stdin and writes its findings as JSON to stdout, so that it is a process of its
own and costs little: requests are bytes made beforehand, answers are read only as far as status and length. Bounded in time: what is
unanswered `GRACE_S` after the end counts as such. Everything that is not a 200 is counted by its status; nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

GRACE_S = 15.0
# Where a body has this, each request has a word of its own there, so that no two are the same.
OWN = "########"
_SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]


@dataclass(frozen=True, slots=True)
class Plan:
    """`clients` send `body` to `url` for `seconds`, after `warm_up_s` that are not measured."""

    url: str
    headers: dict[str, str]
    body: dict[str, Any]
    clients: int
    seconds: float
    warm_up_s: float


@dataclass(slots=True)
class Findings:
    """What came of it, within the measured time. Latencies in milliseconds, of 200s only."""

    requests_per_s: float = 0.0
    median_ms: float = 0.0
    p99_ms: float = 0.0
    ok: int = 0
    other: dict[str, int] = field(default_factory=dict)
    load_cpu_s: float = 0.0


class Client(asyncio.Protocol):
    """One connection that always has one request under way, until `end`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._data = bytearray()
        self._sent = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        now = time.perf_counter()
        if now >= self._run.end:
            self._transport.close()
            self._run.client_done()
            return
        self._sent = now
        self._transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._data[:head_end]).lower()
        place = head.find(b"\r\ncontent-length:")
        if place >= 0:
            length = int(head[place + 17 :].split(b"\r\n", 1)[0])
            if len(self._data) < head_end + 4 + length:
                return
        elif not self._data.endswith(b"0\r\n\r\n"):
            return
        self._run.answered(head[9:12].decode(), self._sent)
        self._data.clear()
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._run.finished and time.perf_counter() < self._run.end:
            self._run.answered("connection lost", self._sent)
            self._run.reconnect()


class Run:
    """All clients of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        split = urlsplit(plan.url)
        self._host, self._port = split.hostname or "", split.port or 80
        content = orjson.dumps(plan.body)
        headers = {"Host": split.netloc, "Content-Type": "application/json", "Content-Length": str(len(content)), **plan.headers}
        head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        self._request = (f"POST {split.path} HTTP/1.1\r\n{head}\r\n".encode() + content).split(OWN.encode(), 1)
        self._sent = 0
        self._left = plan.clients
        self._done = asyncio.Event()
        self._reconnects: set[asyncio.Task[None]] = set()
        self._latencies: list[float] = []
        self._other: Counter[str] = Counter()
        self._begin = 0.0
        self.end = 0.0
        self.finished = False

    async def go(self) -> Findings:
        """Run the plan."""
        self._begin = time.perf_counter() + self._plan.warm_up_s
        self.end = self._begin + self._plan.seconds
        await asyncio.gather(*(self._connect() for _ in range(self._plan.clients)))
        try:
            async with asyncio.timeout(self._plan.warm_up_s + self._plan.seconds + GRACE_S):
                await self._done.wait()
        except TimeoutError:
            self._other["unanswered"] += self._left
        self.finished = True
        latencies = sorted(self._latencies)
        if not latencies:
            return Findings(other=dict(self._other))
        return Findings(
            requests_per_s=len(latencies) / self._plan.seconds,
            median_ms=latencies[len(latencies) // 2] * 1000,
            p99_ms=latencies[min(len(latencies) * 99 // 100, len(latencies) - 1)] * 1000,
            ok=len(latencies),
            other=dict(self._other),
            load_cpu_s=time.process_time(),
        )

    def request(self) -> bytes:
        """The bytes of the next request."""
        self._sent += 1
        word = "".join(_SYLLABLES[self._sent // 100**place % 100] for place in range(len(OWN) // 2))
        return word.encode().join(self._request)

    def answered(self, status: str, sent: float) -> None:
        """Count one answer; what was answered outside the measured time counts only where it is no 200."""
        now = time.perf_counter()
        if status != "200":
            self._other[status] += 1
        elif self._begin <= now <= self.end:
            self._latencies.append(now - sent)

    def client_done(self) -> None:
        """One client has stopped."""
        self._left -= 1
        if self._left == 0:
            self._done.set()

    def reconnect(self) -> None:
        """Replace a lost connection."""
        task = asyncio.ensure_future(self._connect())
        self._reconnects.add(task)
        task.add_done_callback(self._reconnects.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: Client(self), self._host, self._port)
        except OSError as exc:
            self._other[f"can't connect: {exc.strerror}"] += 1
            self.client_done()


def run_apart(plan: Plan) -> dict[str, Any]:
    """What came of a plan, run by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        input=orjson.dumps(asdict(plan)), stdout=subprocess.PIPE, check=True, timeout=plan.warm_up_s + plan.seconds + 2 * GRACE_S,
    )  # fmt: skip
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def main() -> None:
    """Plan from stdin, findings to stdout."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    findings = uvloop.run(Run(plan).go())
    sys.stdout.buffer.write(orjson.dumps(asdict(findings)))


if __name__ == "__main__":
    main()
