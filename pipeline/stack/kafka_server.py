"""A real Apache Kafka on this machine, without Docker: one process that is broker and controller (KRaft), on 127.0.0.1 only.

    server = KafkaServer(data, port, find_java(), kafka_jars())
    server.prepare(); argv = server.command()       for a supervisor that runs it itself
    server.start(); await server.wait_ready(30); server.stop()

Everything lies under DATA/kafka; a second start finds it again. For one machine and one user: no replication, no security. It
creates no topics (kafka/admin.py does). Fails with PartFailed, which names the log.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.kafka.connection import MAX_REQUEST_BYTES
from pipeline.stack.ports import free_port, is_listening
from pipeline.stack.process import ChildProcess, PartFailed

# A broker that is told to stop writes its snapshots and index files; on a slow disk that takes seconds.
STOP_GRACE_S = 20.0
# The broker shares a small machine with everything else: the first compiler is ready in seconds, the second one takes a core for minutes.
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class KafkaServer:
    """The broker of one data folder. Not started by the constructor."""

    def __init__(self, data: Path, port: int, java: Path, jars: Sequence[Path]) -> None:
        self.folder = data.resolve() / "kafka"
        self.port = port
        self.log = data.resolve() / "logs" / "kafka.log"
        self._java, self._jars = java, jars
        self._child: ChildProcess | None = None

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the configuration, and format the storage where this is its first start. Raises PartFailed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(self._configuration(), encoding="utf-8")
        if not (self._storage / "meta.properties").exists():
            cluster_id = self._run_tool("random-uuid").split()[-1]
            self._run_tool("format", "--config", str(self._properties), "--cluster-id", cluster_id, "--standalone")

    def command(self) -> list[str]:
        """The program that is the broker; `prepare` first. It runs until SIGTERM."""
        return [*self._jvm("-Xms128m", "-Xmx384m", *QUICK), "kafka.Kafka", str(self._properties)]

    def start(self) -> None:
        """Prepare, and start the process."""
        self.prepare()
        self._child = ChildProcess(self.command(), self.log, cwd=self.folder)

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when the broker answers a request for its topics. Raises PartFailed where it ended or `timeout_s` passed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (is_listening("127.0.0.1", self.port) and await answers(self.bootstrap)):
                    if self._child is not None and self._child.exit_code() is not None:
                        raise PartFailed(f"Kafka ended with code {self._child.exit_code()} while starting; see {self.log}")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise PartFailed(f"Kafka at {self.bootstrap} gave no answer within {timeout_s:.0f} s; see {self.log}") from None

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. Harmless where it doesn't run."""
        if self._child is not None:
            self._child.stop(grace_s)
            self._child = None

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _storage(self) -> Path:
        return self.folder / "log"

    def _configuration(self) -> str:
        # A new port for the controller at each start: nobody but this process ever connects to it.
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"BROKER://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"BROKER://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "BROKER",
            "log.dirs": str(self._storage),
            "auto.create.topics.enable": "false",
            "default.replication.factor": "1",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": str(MAX_REQUEST_BYTES),
            "replica.fetch.max.bytes": str(MAX_REQUEST_BYTES),
            # After a kill, the controller holds the new process back until it has given up the old one.
            "broker.session.timeout.ms": "5000",
            "broker.heartbeat.interval.ms": "1000",
            # Raw text goes soon after its time is over.
            "log.retention.check.interval.ms": "10000",
            # Kafka preallocates nothing, but each open partition keeps an index this large mapped.
            "log.index.size.max.bytes": "1048576",
            "num.network.threads": "2",
            "num.io.threads": "4",
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _jvm(self, *options: str) -> list[str]:
        quiet = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        stamp = "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS"
        classpath = ":".join(str(jar) for jar in self._jars)
        return [str(self._java), *options, *quiet, stamp, "-Djava.awt.headless=true", "-cp", classpath]

    def _run_tool(self, *arguments: str) -> str:
        command = [*self._jvm("-Xmx128m", *QUICK), "kafka.tools.StorageTool", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  our own jars
        if done.returncode != 0:
            raise PartFailed(f"Kafka's storage in {self._storage} can't be prepared: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout


async def answers(bootstrap: str) -> bool:
    """Whether a broker there answers a metadata request; only for listeners without security."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
    try:
        await admin.start()
        await admin.list_topics()
        return True
    except (KafkaError, OSError, ValueError):
        return False
    finally:
        await admin.close()
