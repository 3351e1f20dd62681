"""`python -m tests.bench.freshness`: how long after its answer a request's row can be queried, at a steady rate on a running stack.

The time of an answer is the client's, the time of its row that of the commit in its table's log (delta_log.py), so nothing asks the
table while it is measured; at the end all rows are counted. Wanted: p95 of all at most GOAL_S, and of each minute once the first ones are
over, in which the table job's JVM compiles what it runs. Exit status 1 where it is not so, where a row is missing or double, where
something was not answered with 200, or where a table is left with too many files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import httpx
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from jobs.delta import tables_in
from tests.bench import report, targets
from tests.bench.delta_log import DeltaLog
from tests.bench.process import NotReady

TABLE = ("bench", "ai", "bench_request_response")
GOAL_S = 10.0
WARM_UP_MINUTES = 2
ARRIVE_S = 60.0
KEEP_ALIVE_S = 4.0
BATCH = re.compile(r"batch \d+: (\d+) rows landed in (\d+) ms")
UPKEEP = re.compile(r"(compact|vacuum) of \S+/(\w+) took ([\d.]+) s")


async def load(door: targets.Door, rate: float, seconds: float, answered: dict[str, float]) -> Counter[str]:
    """Ask `rate` times a second, whether what came before is answered or not; notes request id -> time of its answer (epoch seconds).

    What was not answered with 200, counted.
    """
    body, other = json.dumps(targets.BODY).encode(), Counter[str]()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    headers = {"Content-Type": "application/json", **door.headers}
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def ask() -> None:
            try:
                async with session.post(door.url, data=body) as answer:
                    await answer.read()
                    if answer.status == 200:
                        answered[answer.headers["x-request-id"]] = time.time()
                    else:
                        other[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as exc:
                other[type(exc).__name__] += 1

        begun_s, count = time.monotonic(), int(rate * seconds)
        with Progress(transient=True) as progress:
            bar = progress.add_task("asking", total=count)
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    await asyncio.sleep(max(0.0, begun_s + number / rate - time.monotonic()))
                    group.create_task(ask())
                    if number % int(max(rate, 1)) == 0:
                        progress.update(bar, completed=number)
    return other


def wait_rows(log: DeltaLog, count: int) -> None:
    """Return when the table has so many rows, or ARRIVE_S later."""
    deadline = time.monotonic() + ARRIVE_S
    while log.look().rows < count and time.monotonic() < deadline:
        time.sleep(0.5)


def show(console: Console, title: str, lags: list[tuple[float, float]]) -> bool:
    """Print the percentiles of each minute and of all; whether they are as wanted. `lags`: seconds from the start to an answer, its lag."""
    table = Table(title=title)
    for heading in ("from answer to queryable row", "n", "p50", "p95", "p99", "max", f"p95 ≤ {GOAL_S:g} s"):
        table.add_column(heading, justify="right")
    minutes: dict[int, list[float]] = {}
    for at_s, lag in lags:
        minutes.setdefault(int(at_s // 60), []).append(lag)
    all_good = True
    steady = f"from minute {WARM_UP_MINUTES + 1} on"
    rows = [
        *((f"minute {minute + 1}", minute >= WARM_UP_MINUTES, found) for minute, found in sorted(minutes.items())),
        (steady, True, [lag for at_s, lag in lags if at_s >= WARM_UP_MINUTES * 60]),
        ("all", True, [lag for _, lag in lags]),
    ]
    for name, judged, found in rows:
        if name == steady:
            table.add_section()
        if len(found) < 2:
            continue
        cuts = statistics.quantiles(found, n=100)
        good = cuts[94] <= GOAL_S
        all_good = all_good and (good or not judged)
        table.add_row(
            name, f"{len(found):,}", *[f"{value:.1f} s" for value in (cuts[49], cuts[94], cuts[98], max(found))],
            ("yes" if good else "NO") if judged else "",
        )  # fmt: skip
    console.print(table)
    return all_good


def show_files(console: Console, warehouse: Path, log: Path, seconds: float) -> bool:
    """Print what the table job's batches and its upkeep took in `seconds`, and how many files each table has.

    Whether no table has more than a tenth as many as there would be batches in an hour: it gets no more of them in the rest of the hour.
    """
    told = log.read_text(errors="replace")
    batches = [(int(rows), int(ms)) for rows, ms in BATCH.findall(told)]
    if len(batches) < 2:
        return True
    took = statistics.quantiles([ms / 1000 for _, ms in batches], n=20)
    console.print(f"{len(batches)} micro-batches, landed in {took[9]:.1f} s (median), {took[18]:.1f} s (p95)")
    upkeep: dict[str, list[float]] = {}
    for what, name, took_s in UPKEEP.findall(told):
        upkeep.setdefault(f"{what} {name}", []).append(float(took_s))
    for what, times in sorted(upkeep.items()):
        console.print(f"{what}: {len(times)} times, {statistics.median(times):.1f} s (median), {max(times):.1f} s (longest)")
    files = {".".join(name): len(DeltaLog(warehouse.joinpath(*name)).look().files) for name in tables_in(warehouse)}
    console.print("files now: " + ", ".join(f"{name} {count}" for name, count in files.items()))
    return all(count <= len(batches) * 3_600 / seconds / 10 for count in files.values())


def main() -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.freshness", description="How soon after its answer a request can be queried."
    )
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=900.0)
    args = parser.parse_args()
    # Told to end, it ends the stack too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(width=120)
    answered: dict[str, float] = {}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="sluice-bench-") as name,
            targets.upstream(Path(name)) as upstream_url,
            targets.sluice(upstream_url, Path(name), tables=True) as door,
        ):
            [data] = [p.parent for p in Path(name).glob("*/admin-token")]
            began_s = time.time()
            other = uvloop.run(load(door, args.rate, args.seconds, answered))
            log = DeltaLog(data / "warehouse" / Path(*TABLE))
            wait_rows(log, len(answered) + other.total())
            rows = list(log.ids())
            few_files = show_files(console, data / "warehouse", data / "logs" / "tables.log", args.seconds)
    except (NotReady, OSError, httpx.HTTPError) as exc:
        print(f"bench: {exc!r}", file=sys.stderr)
        return 1
    found = dict(rows)
    lags = [(at_s - began_s, found[request_id] - at_s) for request_id, at_s in answered.items() if request_id in found]
    missing, double = len(answered) - len(lags), len(rows) - len(found)
    about = report.machine()
    good = show(console, f"{about['cpu']}, {about['cores']} cores; {args.rate:g} requests/s for {args.seconds:g} s", lags)
    console.print(
        f"{len(answered):,} answered with 200, {dict(other) or 0} otherwise; {len(rows):,} rows, {missing} missing, {double} double; "
        f"files at most a tenth of an hour's micro-batches: {'yes' if few_files else 'NO'}"
    )
    return 0 if good and few_files and not (missing or double or other) else 1


if __name__ == "__main__":
    sys.exit(main())
