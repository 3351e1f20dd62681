"""A Spark cluster on this machine: a standalone master and two workers, each a JVM of its own, on 127.0.0.1 and free ports.

Its executors are processes of one core each. Python and Java have another zone than UTC, as machines do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pyspark

from pipeline.stack.ports import free_port
from pipeline.stack.process import ChildProcess
from tests.waiting import wait_for

SPARK_HOME = Path(pyspark.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
SMALL_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


class SparkCluster:
    """`start`, then `submit` as often as wanted, then `stop`; logs lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port, self._web_port, self.ui_port = free_port(), free_port(), free_port()
        (folder / "conf").mkdir(parents=True)
        self._env = {
            "SPARK_HOME": str(SPARK_HOME), "SPARK_CONF_DIR": str(folder / "conf"), "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "128m", "SPARK_DAEMON_JAVA_OPTS": SMALL_JVM, "TZ": "Asia/Kolkata", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.workers: list[ChildProcess] = []
        self._processes: list[ChildProcess] = []

    @property
    def url(self) -> str:
        """What spark-submit calls the master."""
        return f"spark://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when the master knows both workers."""
        self._run("master", "--port", str(self._port), "--webui-port", str(self._web_port))
        place = ("--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(self.folder / "work"), self.url)
        self.workers = [self._run("worker", *place) for _ in range(2)]
        wait_for(lambda: self.master().get("aliveworkers") == 2, 60.0)

    def stop(self) -> None:
        """Submitted programs first, the master last."""
        for process in reversed(self._processes):
            process.stop(10.0)

    def submit(self, *command: str, options: tuple[str, ...] = ()) -> ChildProcess:
        """Run a command of Sluice by spark-submit, as deploy/cluster.md has it; `options` are spark-submit's."""
        printed = subprocess.run([sys.executable, "-m", "jobs.submit"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return self.submit_script(*printed.split(), *command, log=command[0], options=("--master", self.url, *options))

    def submit_script(self, *words: str, log: str, options: tuple[str, ...]) -> ChildProcess:
        """Run spark-submit with these words after its options."""
        small = ["--executor-memory", "512m", "--driver-java-options", SMALL_JVM, "--conf", f"spark.executor.extraJavaOptions={SMALL_JVM}"]
        return self._child([str(SPARK_HOME / "bin/spark-submit"), *small, *options, *words], f"{log}.log")

    def log_of(self, command: str) -> str:
        """What a submitted command has printed and logged so far."""
        return (self.folder / f"{command}.log").read_text(encoding="utf-8", errors="replace")

    def master(self) -> dict[str, Any]:
        """What the master says of itself; nothing where it doesn't answer yet."""
        return _json(f"http://127.0.0.1:{self._web_port}/json/") or {}

    def executors(self) -> dict[str, dict[str, Any]]:
        """The live executors of the program whose UI is at `ui_port`, and the driver, by their ids."""
        base = f"http://127.0.0.1:{self.ui_port}/api/v1/applications"
        (program,) = _json(base)
        return {one["id"]: one for one in _json(f"{base}/{program['id']}/executors")}

    def executor_pids(self) -> list[int]:
        """The executors' processes: the workers' children."""
        files = [file for worker in self.workers for file in Path(f"/proc/{worker.pid}/task").glob("*/children")]
        return [int(pid) for file in files for pid in file.read_text().split()]

    def _run(self, role: str, *arguments: str) -> ChildProcess:
        program = f"org.apache.spark.deploy.{role}.{role.capitalize()}"
        return self._child([str(SPARK_HOME / "bin/spark-class"), program, "--host", "127.0.0.1", *arguments], f"{role}.log")

    def _child(self, argv: list[str], log: str) -> ChildProcess:
        self._processes.append(ChildProcess(argv, self.folder / log, env=self._env, cwd=self.folder))
        return self._processes[-1]


def _json(address: str) -> Any:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310  loopback
            return json.load(answer)
    except OSError:
        return None
