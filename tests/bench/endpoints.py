"""`python -m tests.bench.endpoints`: how soon a record can be queried, with how many endpoints: the table job alone on a real broker.

Records go straight into gateway.records at a steady rate. Half of them are of the busiest twentieth of the endpoints, the other half of all
others alike. From a record's append to the commit that holds its row; as in freshness.py, times are those of the commits' files.
Exit status 1 where a row is missing or double.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.kafka.connection import new_producer
from pipeline.records import InferenceRecord, InferenceTable
from pipeline.settings import Settings
from pipeline.topics import RECORDS
from tests.bench import report
from tests.bench.delta_log import DeltaLog
from tests.bench.process import NotReady, table_job
from tests.own_broker import own_broker

CATALOG, SCHEMA = "bench", "ai"
START_S, ARRIVE_S = 120.0, 600.0
BUSY_SHARE = 0.05
# Names of the busy and of the other endpoints' prefixes begin so.
BUSY, QUIET = "busy", "quiet"
TEXT = "Explain in two sentences why rivers bend, for a reader of ten years. " * 10


@dataclass(frozen=True)
class Freshness:
    """Seconds from append to row, of the busy endpoints, of the others, and in endpoint_usage; `wrong`: rows missing or double."""

    busy: list[float]
    quiet: list[float]
    usage: list[float]
    wrong: int
    caught_up_s: float


def prefixes(endpoints: int) -> tuple[list[str], list[str]]:
    """The busy ones and the others."""
    busy = max(1, round(endpoints * BUSY_SHARE))
    return [f"{BUSY}_{n}" for n in range(busy)], [f"{QUIET}_{n}" for n in range(endpoints - busy)]


def a_record(number: int, prefix: str) -> InferenceRecord:
    """As a worker writes one."""
    table = InferenceTable(catalog_name=CATALOG, schema_name=SCHEMA, table_name_prefix=prefix)
    return InferenceRecord(
        request_id=f"r{number}", run_id="1", timestamp_ms=int(time.time() * 1000), endpoint_name=prefix, requester="alice@example.com",
        task="llm/v1/chat", request=json.dumps({"messages": [{"role": "user", "content": TEXT}]}), response='{"choices":[]}',
        status_code=200, finish="ok", execution_time_ms=12, input_tokens=3, output_tokens=5, usage_tracking=True, inference_table=table,
    )  # fmt: skip


async def load(settings: Settings, endpoints: int, rate: float, seconds: float) -> dict[str, tuple[str, float]]:
    """Request id -> its prefix and the time of its append (epoch seconds)."""
    busy, quiet = prefixes(endpoints)
    rng, appended = random.Random(1), dict[str, tuple[str, float]]()
    producer = new_producer(settings, "bench")
    await producer.start()

    async def send(number: int) -> None:
        prefix = rng.choice(busy if rng.random() < 0.5 else quiet)
        one = a_record(number, prefix)
        await producer.send_and_wait(RECORDS.name, one.model_dump_json().encode(), key=one.request_id.encode())
        appended[one.request_id] = prefix, time.time()

    try:
        begun, sent = time.monotonic(), []
        with Progress(transient=True) as progress:
            bar = progress.add_task(f"{endpoints} endpoints", total=int(rate * seconds))
            while len(sent) < rate * seconds:
                await asyncio.sleep(max(0.0, begun + len(sent) / rate - time.monotonic()))
                sent.append(asyncio.create_task(send(len(sent))))
                progress.update(bar, completed=len(sent))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return appended


def wait_spread(settings: Settings, since_s: float) -> float:
    """Return when the job says, later than `since_s`, that nothing waits any more: the time (epoch seconds)."""
    file, deadline = settings.data / "status" / "tables.json", time.monotonic() + ARRIVE_S
    while time.monotonic() < deadline:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        told_s = told["updated_ms"] / 1000
        spread = told["kafka_records_behind"] == 0 and all(target["lag_batches"] == 0 for target in told["targets"].values())
        if spread and told_s > since_s:
            return float(told_s)
        time.sleep(1)
    return time.time()


def measure(endpoints: int, rate: float, seconds: float, warm_up_s: float) -> Freshness:
    """With a broker and a table job of its own. What comes in the first `warm_up_s` must arrive too, and is not measured."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, own_broker(Path(name)) as settings:
        with table_job(settings, Path(name, "tables.log"), START_S):
            began_s = time.time()
            appended = asyncio.run(load(settings, endpoints, rate, seconds + warm_up_s))
            ended_s = time.time()
            # What the job says is as old as its last pass: first it must have read the last record.
            spread_s = wait_spread(settings, ended_s + settings.trigger_s * 2)
        return _freshness(settings.warehouse_dir, appended, began_s + warm_up_s, spread_s - ended_s)


def _freshness(warehouse: Path, appended: dict[str, tuple[str, float]], since_s: float, caught_up_s: float) -> Freshness:
    lags: dict[str, list[float]] = {BUSY: [], QUIET: [], "usage": []}
    wrong = 0
    usage = list(DeltaLog(warehouse / "system" / "serving" / "endpoint_usage").look().ids("databricks_request_id"))
    tables = sorted((warehouse / CATALOG / SCHEMA).glob("*_request_response"))
    rows = [row for folder in tables for row in DeltaLog(folder).look().ids()]
    for found, kind in ((usage, "usage"), (rows, "")):
        # Each id once: neither lost nor double.
        wrong += len(appended) - len({i for i, _ in found} & appended.keys()) + len(found) - len({i for i, _ in found})
        for request_id, commit_s in found:
            prefix, append_s = appended[request_id]
            if append_s >= since_s:
                lags[kind or prefix.partition("_")[0]].append(commit_s - append_s)
    return Freshness(lags[BUSY], lags[QUIET], lags["usage"], wrong, caught_up_s)


def main() -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.endpoints", description="How soon a record can be queried, with more and more endpoints."
    )
    parser.add_argument("--endpoints", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--rate", type=float, default=100.0, help="records a second, of all endpoints together")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds before that, in which the job is loaded and not measured")
    args = parser.parse_args()
    about = report.machine()
    table = Table(title=f"{about['cpu']}, {about['cores']} cores; {args.rate:g} records/s for {args.seconds:g} s")
    for heading in ("endpoints", "busy p50", "p95", "others p50", "p95", "endpoint_usage p50", "p95", "caught up after", "wrong"):
        table.add_column(heading, justify="right")
    wrong = 0
    for endpoints in args.endpoints:
        try:
            found = measure(endpoints, args.rate, args.seconds, args.warm_up)
        except (NotReady, OSError) as exc:
            print(f"bench: {exc!r}", file=sys.stderr)
            return 1
        cuts = [statistics.quantiles(lags, n=20) for lags in (found.busy, found.quiet, found.usage)]
        figures = [f"{value:.1f} s" for cut in cuts for value in (cut[9], cut[18])]
        table.add_row(str(endpoints), *figures, f"{found.caught_up_s:.0f} s", str(found.wrong))
        wrong += found.wrong
    Console(width=140).print(table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
