"""`python -m tests.bench.freshness`: how long after its answer a request's row can be queried, at a steady rate on a running stack.

A row can be queried from the moment on at which the commit that holds it appears in its table's log, so nothing has to poll: the time
of an answer is the client's, the time of its row is that of the commit's file. Exit status 1 where a row is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jobs.session import spark_session
from pipeline.settings import Settings
from tests.bench import report, targets
from tests.bench.process import NotReady

TABLE = ("bench", "ai", "bench_request_response")
ARRIVE_S = 60.0


async def load(door: targets.Door, rate: float, seconds: float) -> dict[str, float]:
    """Request id -> the time of its answer (epoch seconds), of `rate` requests a second."""
    answered: dict[str, float] = {}
    async with httpx.AsyncClient(headers=door.headers, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:

        async def ask() -> None:
            answer = await client.post(door.url, json=targets.BODY)
            answer.raise_for_status()
            answered[answer.headers["x-request-id"]] = time.time()

        begun, asked = time.monotonic(), []
        with Progress(transient=True) as progress:
            bar = progress.add_task("asking", total=int(rate * seconds))
            while len(asked) < rate * seconds:
                await asyncio.sleep(max(0.0, begun + len(asked) / rate - time.monotonic()))
                asked.append(asyncio.create_task(ask()))
                progress.update(bar, completed=len(asked))
        await asyncio.gather(*asked)
    return answered


def committed(warehouse: Path) -> dict[str, float]:
    """Request id -> the time of the commit that brought its row (epoch seconds), files included that were compacted since."""
    folder = warehouse.joinpath(*TABLE)
    times: dict[str, float] = {}
    for commit in sorted((folder / "_delta_log").glob("*.json")):
        for line in commit.read_text(encoding="utf-8").splitlines():
            added = json.loads(line).get("add")
            if added and added["dataChange"]:
                times[unquote(added["path"])] = os.stat(commit).st_mtime
    if not times:
        return {}
    spark = spark_session(Settings(data=warehouse.parent))
    read = spark.read.option("basePath", str(folder)).parquet(*[str(folder / path) for path in times])
    rows = read.selectExpr("request_id", "_metadata.file_path AS file").collect()
    return {row.request_id: times[unquote(row.file).partition(f"{folder}/")[2]] for row in rows}


def wait_committed(warehouse: Path, wanted: set[str]) -> dict[str, float]:
    """The same, once all that is wanted is there, or ARRIVE_S later."""
    deadline = time.monotonic() + ARRIVE_S
    while True:
        found = committed(warehouse)
        if wanted <= found.keys() or time.monotonic() > deadline:
            return found
        time.sleep(1)


def main() -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.freshness", description="How soon after its answer a request can be queried."
    )
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=120.0)
    args = parser.parse_args()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="sluice-bench-") as name,
            targets.upstream(Path(name)) as upstream_url,
            targets.sluice(upstream_url, Path(name), tables=True) as door,
        ):
            [data] = [p.parent for p in Path(name).glob("*/admin-token")]
            answered = asyncio.run(load(door, args.rate, args.seconds))
            found = wait_committed(data / "warehouse", set(answered))
    except (NotReady, OSError, httpx.HTTPError) as exc:
        print(f"bench: {exc!r}", file=sys.stderr)
        return 1
    lags = [found[request_id] - answer for request_id, answer in answered.items() if request_id in found]
    missing = len(answered) - len(lags)
    about = report.machine()
    table = Table(title=f"{about['cpu']}, {about['cores']} cores; {args.rate:g} requests/s for {args.seconds:g} s; n = {len(lags)}")
    for heading in ("from answer to queryable row", "p50", "p95", "p99", "max", "missing"):
        table.add_column(heading, justify="right")
    cuts = statistics.quantiles(lags, n=100)
    table.add_row("", *[f"{value:.1f} s" for value in (cuts[49], cuts[94], cuts[98], max(lags))], str(missing))
    Console(width=120).print(table)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
