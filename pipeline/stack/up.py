"""`sluice up`: the whole stack on one machine, in one foreground command.

    lock the data folder -> jars -> broker -> topics -> workers, ingress, table job, demo provider -> admin token -> "ready"

The parts are the same commands that run alone in a real deployment (`python -m pipeline worker` and so on); what they need is handed
to them in their environment. Everything fails with a SluiceError that says what to do, and leaves no process behind.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from pipeline.errors import SluiceError
from pipeline.settings import Settings
from pipeline.stack.data_folder import DataFolder, StackState
from pipeline.stack.kafka_server import STOP_GRACE_S, KafkaServer
from pipeline.stack.ports import free_port, is_free
from pipeline.stack.process import PartFailed
from pipeline.stack.supervisor import Part, Supervisor

KAFKA_PORT = 9092
START_TIMEOUT_S = 120.0
BROKER_TIMEOUT_S = 60.0
ADMIN = "admin"


class PortTaken(SluiceError):
    """Something else listens on the port that was asked for."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What to start. `external_kafka`: use the cluster that the settings name instead of starting a broker."""

    settings: Settings
    workers: int = 1
    tables: bool = True
    demo_provider: bool = False
    external_kafka: bool = False


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What a stack that is ready hands to whoever goes on with it. `state` is as of now."""

    settings: Settings
    host: str
    folder: DataFolder
    demo_url: str | None


async def run(options: StackOptions, say: Callable[[str], None], then: Callable[[RunningStack], Awaitable[None]]) -> None:
    """Start everything, call `then` once all is ready, keep it running until SIGINT or SIGTERM, stop everything.

    A second signal while stopping kills what is left. Raises SluiceError where something can't be started, and what `then` raises.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    folder = DataFolder(options.settings.data)
    folder.lock()
    try:
        stack = _Stack(options, folder, say)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: stack.supervisor.kill() if stop.is_set() else stop.set())
        work = asyncio.create_task(stack.start_then(then), name="start")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                await stopping
        finally:
            work.cancel()
            stopping.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
            say("stopping")
            stop.set()
            await stack.supervisor.stop()
            say("stopped")
    finally:
        folder.unlock()


class _Stack:
    """One start of one stack."""

    def __init__(self, options: StackOptions, folder: DataFolder, say: Callable[[str], None]) -> None:
        self._options, self._folder, self._say = options, folder, say
        self._settings = options.settings
        self._demo_port: int | None = None
        self._demo_key = secrets.token_urlsafe(16)
        self.supervisor = Supervisor(folder.logs, say, self._write_state)

    async def start_then(self, then: Callable[[RunningStack], Awaitable[None]]) -> None:
        self._choose_ports()
        await self._start_broker()
        from pipeline.kafka.admin import create_topics

        await create_topics(self._settings)
        parts = self._parts()
        for part in parts:
            self.supervisor.start(part)
        await self.supervisor.wait_ready([p.name for p in parts if p.name.startswith("worker")], START_TIMEOUT_S)
        await self._ensure_admin_token()
        await self.supervisor.wait_ready([p.name for p in parts], START_TIMEOUT_S)
        await self._wait_serving()
        await then(RunningStack(self._settings, self._host, self._folder, self._demo_url))

    @property
    def _host(self) -> str:
        address = "127.0.0.1" if self._settings.bind == "0.0.0.0" else self._settings.bind  # noqa: S104  compared, not bound
        return f"http://{address}:{self._settings.port}"

    @property
    def _demo_url(self) -> str | None:
        return f"http://127.0.0.1:{self._demo_port}/v1" if self._demo_port else None

    def _choose_ports(self) -> None:
        changes: dict[str, object] = {"data": self._folder.path, "warehouse": self._settings.warehouse_dir, "allow_private_providers": True}
        if self._settings.port == 0:
            changes["port"] = free_port()
        elif not is_free(self._settings.port, self._settings.bind):
            raise PortTaken(f"port {self._settings.port} on {self._settings.bind} is taken; choose another with --port (0: any free one)")
        if not self._options.external_kafka:
            changes["kafka"] = f"127.0.0.1:{self._folder.port('kafka', KAFKA_PORT)}"
        if self._options.demo_provider:
            self._demo_port = self._folder.port("demo-provider", None)
            former = self._folder.read_state()
            if former is not None and former.demo_url not in (None, self._demo_url):
                self._say(f"the demo provider is at {self._demo_url} now, its port of before is taken; endpoints name {former.demo_url}")
        self._settings = self._settings.model_copy(update=changes)

    async def _start_broker(self) -> None:
        if self._options.external_kafka:
            self._say(f"using Kafka at {self._settings.kafka}")
            return
        from pipeline.stack.jars import find_java, kafka_jars

        server = KafkaServer(self._folder.path, int(self._settings.kafka.rpartition(":")[2]), find_java(), kafka_jars())

        async def probe() -> None:
            await server.wait_ready(BROKER_TIMEOUT_S)

        self.supervisor.start(
            Part(
                "kafka", server.command(), 3, STOP_GRACE_S, cwd=server.folder, prepare=server.prepare, probe=probe, detail=server.bootstrap
            )
        )
        await self.supervisor.wait_ready(["kafka"], BROKER_TIMEOUT_S)

    def _parts(self) -> list[Part]:
        env = environment(self._settings)
        command = [sys.executable, "-m", "pipeline"]
        worker_env = env | ({"SLUICE_SECRET_DEMO_KEY": self._demo_key} if self._demo_port else {})
        parts = []
        if self._demo_port:
            ledger = self._folder.path / "demo-ledger.jsonl"
            argv = [*command, "demo-provider", "--port", str(self._demo_port), "--ledger", str(ledger)]
            parts.append(Part("demo-provider", argv, 2, 5.0, env))
        # On a cluster that others use too, a worker's name must be this installation's own: the broker lets each name in once.
        suffix = f"-{self._folder.installation_id()}" if self._options.external_kafka else ""
        for number in range(self._options.workers):
            name = f"worker-{number}"
            parts.append(Part(name, [*command, "worker", "--worker-id", f"{name}{suffix}"], 1, 20.0, worker_env))
        parts.append(Part("ingress", [*command, "ingress"], 0, 15.0, env))
        if self._options.tables:
            # Rows may come a second later; whoever waits for an answer should not.
            parts.append(Part("tables", ["nice", "-n", "5", *command, "tables"], 2, 30.0, env))
        return parts

    async def _wait_serving(self) -> None:
        """The ingress finds the workers by asking the broker now and then; until it has, it refuses requests. Raises PartFailed."""
        import httpx

        why = "it gave no answer"
        try:
            async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
                while True:
                    try:
                        answer = await client.get(f"{self._host}/readyz", timeout=5)
                        if answer.is_success:
                            return
                        why = answer.text[:300]
                    except httpx.TransportError as exc:
                        why = type(exc).__name__
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise PartFailed(f"the gateway does not serve after {START_TIMEOUT_S:.0f} s: {why}; see {self._folder.logs}") from None

    async def _ensure_admin_token(self) -> None:
        """On the first start only: a token that was revoked since must not come back."""
        if self._folder.read_token():
            return
        from pipeline.commands_client import new_token, send_command

        token, command = new_token(ADMIN, [], admin=True, by=ADMIN, reply_partition=self._settings.reply_partition)
        await send_command(self._settings, command, timeout_s=30)
        self._folder.write_token(token)
        self._say(f"made an admin token: {self._folder.token_file}")

    def _write_state(self) -> None:
        state = StackState(
            supervisor=os.getpid(), host=self._host, kafka=self._settings.kafka, demo_url=self._demo_url, parts=self.supervisor.states()
        )
        self._folder.write_state(state)


def environment(settings: Settings) -> dict[str, str]:
    """The variables that make another process of this gateway read the same settings."""
    values: dict[str, str] = {}
    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            values[f"SLUICE_{name.upper()}"] = str(value.resolve() if isinstance(value, Path) else value)
    return values
