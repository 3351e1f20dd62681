"""What is measured: the upstream itself, LiteLLM's proxy before it, and the gateway before it. Each is a context manager that starts it
and yields the Door that the load goes through."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import yaml

from pipeline.stack.ports import free_port
from tests.bench.process import running

# The newest release whose requirements could all be installed when this was written (later ones ask for a certifi of the day after).
LITELLM_VERSION = "1.106.2"
MODEL = "bench"
PROMPT = "Explain in two sentences why rivers bend, for a reader of ten years. " * 4
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 100}
START_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where the load sends its requests."""

    url: str
    headers: dict[str, str]


@contextlib.contextmanager
def upstream(work: Path) -> Iterator[str]:
    """The demo provider; yields its address."""
    mark = "SLUICE READY demo-provider "
    command = [sys.executable, "-m", "pipeline.demo_provider", "0"]
    with running(command, work / "demo-provider.log", lambda out: mark in out and out.endswith("\n"), 30) as output:
        yield output.partition(mark)[2].split()[0]


@contextlib.contextmanager
def direct(upstream_url: str, work: Path) -> Iterator[Door]:
    """The upstream without anything between."""
    yield Door(f"{upstream_url}/v1/chat/completions", {})


def litellm_environment() -> Path:
    """The folder of an environment with LiteLLM's proxy; made on first use (about a minute), kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sluice" / "bench" / f"litellm-{LITELLM_VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    if not (folder / "installed").exists():
        print(f"installing LiteLLM {LITELLM_VERSION} into {folder} (once)", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"litellm[proxy]=={LITELLM_VERSION}"], check=True
        )
        (folder / "installed").touch()
    return folder


@contextlib.contextmanager
def litellm(upstream_url: str, work: Path) -> Iterator[Door]:
    """LiteLLM's proxy with as many workers as cores, as its documentation has it: no database, no callbacks, no retries, a master key."""
    folder = litellm_environment()
    port = free_port()
    key = f"sk-{secrets.token_hex(32)}"
    config = {
        "model_list": [
            {"model_name": MODEL, "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{upstream_url}/v1", "api_key": "dummy"}}
        ],
        "litellm_settings": {"callbacks": [], "num_retries": 0, "request_timeout": 30, "telemetry": False},
        "general_settings": {"master_key": key},
    }
    file = work / "litellm.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [str(folder / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", str(os.cpu_count() or 1)]
    # Its price list is read from the package instead of the network.
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    door = Door(f"http://127.0.0.1:{port}/v1/chat/completions", {"Authorization": f"Bearer {key}"})
    with running(command, work / "litellm.log", lambda _: _answers(door), START_TIMEOUT_S, env):
        yield door


@contextlib.contextmanager
def sluice(upstream_url: str, work: Path, tables: bool, workers: int = 1, settings: dict[str, str] | None = None) -> Iterator[Door]:
    """The gateway with all its processes, broker included: one rate limit, usage tracking and an inference table on. `settings`: variables
    that make it differ from the defaults."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=work) as data:
        command = [sys.executable, "-m", "pipeline", "up", "--port", str(port), "--data", data, "--workers", str(workers)]
        command += [] if tables else ["--no-tables"]
        log = work / f"sluice{'' if tables else '-no-tables'}.log"
        env = {"SLUICE_SECRET_BENCH_KEY": "dummy-key", **(settings or {})}
        with running(command, log, lambda out: "SLUICE READY stack " in out, START_TIMEOUT_S, env):
            host = f"http://127.0.0.1:{port}"
            headers = {"Authorization": f"Bearer {(Path(data) / 'admin-token').read_text().strip()}"}
            door = Door(f"{host}/v1/chat/completions", headers)
            create(door, endpoint(upstream_url))
            yield door


def create(door: Door, body: dict[str, Any]) -> None:
    """Create an endpoint (the API's create body) at the gateway behind `door`."""
    made = httpx.post(urljoin(door.url, "/api/2.0/serving-endpoints"), json=body, headers=door.headers, timeout=60, trust_env=False)
    made.raise_for_status()


def endpoint(upstream_url: str, name: str = MODEL, model: str = MODEL) -> dict[str, Any]:
    """The create body of an endpoint that is measured; `model` says what the demo provider does."""
    openai = {"openai_api_key": "{{secrets/bench/key}}", "openai_api_base": f"{upstream_url}/v1"}
    entity = {"name": name, "external_model": {"name": model, "provider": "openai", "task": "llm/v1/chat", "openai_config": openai}}
    return {
        "name": name,
        "config": {"served_entities": [entity]},
        "ai_gateway": {
            "rate_limits": [{"calls": 1_000_000_000, "renewal_period": "minute"}],
            "usage_tracking_config": {"enabled": True},
            "inference_table_config": {"catalog_name": "bench", "schema_name": "ai", "table_name_prefix": name, "enabled": True},
        },
    }


def _answers(door: Door) -> bool:
    try:
        answer = httpx.post(door.url, json=BODY, headers=door.headers, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200
