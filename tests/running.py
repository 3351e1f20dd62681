"""The running product, as `sluice up` starts it, with what tests and the fault suite ask of it.

`Stack` starts one in a data folder of its own, on ports of its own, and ends it. `rows_of` reads its Delta tables by their paths, with one
Spark session for all of a process; Spark knows one warehouse in a process, that of the first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from pipeline.stack.data_folder import DataFolder, StackState
from pipeline.stack.ports import free_port

RowsOf = Callable[[Path, str], list[dict[str, Any]]]
START_S, STOP_S = 150.0, 90.0
# Keys that the specification's examples name; the demo provider takes any.
SECRETS = {
    f"SLUICE_SECRET_{name}": "a-made-up-key"
    for name in ("LLM_KEYS_OPENAI_KEY", "LLM_KEYS_ANTHROPIC_KEY", "PRODUCTION_OPENAI_KEY", "PRODUCTION_ANTHROPIC_KEY")
}


def rows_reader(data: Path, columns: Sequence[str] = ("*",)) -> RowsOf:
    """Reads a Delta table below any warehouse, by its path. The Spark session is started at the first use, for the data folder `data`."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import SparkSession

    from jobs.session import spark_session
    from pipeline.settings import Settings

    def read(warehouse: Path, table: str) -> list[dict[str, Any]]:
        place = warehouse.joinpath(*table.split("."))
        if not (place / "_delta_log").exists():
            return []
        running = SparkSession.getActiveSession()
        if running is None or running.sparkContext._jsc is None:
            running = spark_session(Settings(data=data))
        try:
            return [row.asDict(recursive=True) for row in running.read.format("delta").load(str(place)).select(*columns).collect()]
        except AnalysisException:
            return []  # Its first commit is being made.

    return read


class Stack:
    """A running stack, and what tests ask of it."""

    def __init__(self, data: Path, arguments: Sequence[str], env: dict[str, str], rows_of: RowsOf) -> None:
        self.data = data
        self._arguments, self._env, self._rows_of = list(arguments), env, rows_of
        self._process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    def start(self) -> None:
        """Start it and wait until it says that all is ready."""
        folder = DataFolder(self.data)
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Ports of its own, so that several stacks on one machine don't take turns for the default ones.
        folder.port("kafka", None)
        demo = folder.port("demo-provider", None)
        bases = {"SLUICE_OPENAI_API_BASE": f"http://127.0.0.1:{demo}/v1", "SLUICE_ANTHROPIC_API_BASE": f"http://127.0.0.1:{demo}"}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DATABRICKS_")) or k == "SLUICE_JARS"}
        argv = [sys.executable, "-m", "pipeline", "up", "--data", str(self.data), "--port", str(free_port()), "--demo", "--no-tour"]
        self._process = subprocess.Popen(
            [*argv, *self._arguments], env={**clean, **SECRETS, **bases, **self._env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        ready = threading.Event()
        # Only what this start prints counts.
        self.lines = lines = []
        threading.Thread(target=self._read, args=(self._process, lines, ready), daemon=True).start()
        deadline = time.monotonic() + START_S
        while not ready.wait(0.1):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError("the stack did not become ready:\n" + "\n".join(lines[-40:]))

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: list[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("SLUICE READY stack"):
                    ready.set()

    def stop(self) -> int:
        """Ctrl-C, and wait for the end; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the supervisor (its parts die with it). Harmless where it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def state(self) -> StackState:
        """What the stack says of itself now: process ids and readiness of all parts."""
        state = DataFolder(self.data).read_state()
        assert state is not None
        return state

    @property
    def host(self) -> str:
        return self.state().host

    @property
    def kafka(self) -> str:
        return self.state().kafka

    @property
    def demo_url(self) -> str:
        """The demo provider's base for OpenAI clients, /v1 included."""
        url = self.state().demo_url
        assert url is not None
        return url

    @property
    def admin_token(self) -> str:
        token = DataFolder(self.data).read_token()
        assert token is not None
        return token

    def http(self, token: str | None = None) -> httpx.Client:
        """A client of the gateway; the admin's unless a token is given. Close it, or use it with `with`."""
        headers = {"authorization": f"Bearer {token or self.admin_token}"}
        return httpx.Client(base_url=self.host, headers=headers, timeout=130, trust_env=False)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """An admin's call that must succeed; its JSON."""
        with self.http() as client:
            answer = client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else {}

    def token(self, user: str, groups: Sequence[str] = (), admin: bool = False) -> str:
        """A new access token of `user`."""
        made = self.call("POST", "/api/2.0/sluice/tokens", {"user": user, "groups": list(groups), "admin": admin})
        return str(made["token"])

    def entity(
        self, model: str = "demo-small", name: str | None = None, *, task: str = "llm/v1/chat", provider: str = "openai"
    ) -> dict[str, Any]:
        """A served entity at the demo provider; the model's name says what it does."""
        external: dict[str, Any] = {"name": model, "provider": provider, "task": task}
        if provider == "anthropic":
            external["anthropic_config"] = {"anthropic_api_key": "{{secrets/demo/key}}"}
        else:
            external["openai_config"] = {"openai_api_key": "{{secrets/demo/key}}", "openai_api_base": self.demo_url}
        return {"external_model": external} | ({"name": name} if name else {})

    def create_endpoint(
        self,
        name: str,
        ai_gateway: dict[str, Any] | None = None,
        entities: list[dict[str, Any]] | None = None,
        tags: list[dict[str, str]] | None = None,
    ) -> dict[str, Any]:
        """An endpoint, by default with one entity at the demo provider; the API's answer."""
        body: dict[str, Any] = {"name": name, "config": {"served_entities": entities or [self.entity()]}}
        if ai_gateway is not None:
            body["ai_gateway"] = ai_gateway
        if tags is not None:
            body["tags"] = tags
        created: dict[str, Any] = self.call("POST", "/api/2.0/serving-endpoints", body)
        return created

    def delete_endpoint(self, name: str) -> None:
        """Delete it."""
        self.call("DELETE", f"/api/2.0/serving-endpoints/{name}")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table by its three-part name (nested values as dicts and lists); none where the table isn't there yet."""
        return self._rows_of(self.data / "warehouse", table)

    def wait_rows(self, table: str, count: int, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """The rows of a table as soon as it has at least `count`."""
        deadline = time.monotonic() + timeout_s
        while len(rows := self.rows(table)) < count:
            assert time.monotonic() < deadline, f"{table} has {len(rows)} rows after {timeout_s} s, {count} were expected"
        return rows

    def wait_state(self, condition: Callable[[StackState], bool], what: str, timeout_s: float = 60.0) -> StackState:
        """The state as soon as it fulfils `condition`."""
        deadline = time.monotonic() + timeout_s
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, f"not {what} after {timeout_s} s: {state}"
            threading.Event().wait(0.05)
        return state
