"""From rounds to a result: medians over the rounds, added latency, ratios, and all of it as a table.."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.targets import LITELLM_VERSION

PEER = "litellm"


def machine() -> dict[str, Any]:
    """What the numbers were measured on, and with which versions."""
    packages = ("aiohttp", "aiokafka", "faust-streaming", "httpx", "orjson", "pyspark", "starlette", "uvicorn", "uvloop")
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next((int(line.split()[1]) // 1_048_576 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu, "cores": os.cpu_count(), "memory_gib": memory, "system": platform.platform(), "python": platform.python_version(),
        "litellm": LITELLM_VERSION, **{p: version(p) for p in packages},
    }  # fmt: skip


def _lines(path: str) -> Iterable[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else ()


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """For each target: medians over all rounds, the latency it adds to the direct call of the same round, ratios to the peer."""
    names = [n for n in rounds[0] if n != "direct"]
    result: dict[str, dict[str, float]] = {}
    for name in ("direct", *names):
        measured = [r[name] for r in rounds if name in r]
        row = {
            "median_ms": median(m["one"]["median_ms"] for m in measured),
            "requests_per_s": median(m["many"]["requests_per_s"] for m in measured),
            "p99_ms": median(m["many"]["p99_ms"] for m in measured),
            "not_200": float(sum(sum(m[part]["other"].values()) for m in measured for part in ("one", "many"))),
        }
        if name != "direct":
            row["added_ms"] = median(r[name]["one"]["median_ms"] - r["direct"]["one"]["median_ms"] for r in rounds if name in r)
        result[name] = row
    peer = result.get(PEER)
    for name in names:
        if peer and name != PEER:
            for field in ("added_ms", "requests_per_s", "p99_ms"):
                result[name][f"{field}_ratio"] = result[name][field] / peer[field]
    return result


def show(result: dict[str, dict[str, float]], about: dict[str, Any], rounds: int, clients: int) -> None:
    """Print the table."""
    where = f"{about['cpu']}, {about['cores']} cores, Python {about['python']}"
    title = f"{where}; medians of {rounds} rounds; ratios: ours / LiteLLM {LITELLM_VERSION}"
    table = Table(title=title)
    for heading in (
        "",
        "added median, 1 client",
        "ratio",
        f"requests/s, {clients} clients",
        "ratio",
        f"p99, {clients} clients",
        "ratio",
        "not 200",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, row in result.items():
        added = f"{row['added_ms']:.2f} ms" if "added_ms" in row else f"({row['median_ms']:.2f} ms itself)"
        table.add_row(
            name, added, _ratio(row, "added_ms"), f"{row['requests_per_s']:.0f}", _ratio(row, "requests_per_s"),
            f"{row['p99_ms']:.0f} ms", _ratio(row, "p99_ms"), f"{row['not_200']:.0f}",
        )  # fmt: skip
    Console(width=150).print(table)


def _ratio(row: dict[str, float], field: str) -> str:
    value = row.get(f"{field}_ratio")
    return "" if value is None else f"{value:.2f}"
