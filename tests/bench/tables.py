"""`python -m tests.bench.tables`: the table job alone, at rates that no gateway beside it would reach, with small tables and large ones.

    gateway     how many requests a second the gateway alone answers, without a table job: the job is to do twice as much
    steady      RATE records a second (made_records.py) on a real broker, tables nearly empty: how long a micro-batch takes to land, and
                how long until it is in every table
    backlog     the job is stopped, --rows records are put into gateway.records, the job starts again: how many a second land and are spread
                while there is a backlog, in the first quarter and in the last
    steady      the same rate again, with all those rows in the tables: while the backlog's files are being joined, and once they are
    dashboard   the specification's query and `sluice dashboard` over them, each twice in one session

Exit status 1 where a row is missing or double. The goals are shown with the figures.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop
from rich.console import Console

from jobs.dashboard import run as run_dashboard
from jobs.session import spark_session
from jobs.sql import run_in
from jobs.sql_client import ask
from jobs.upkeep import COMMITS_WHEN_IDLE
from pipeline.settings import Settings
from tests.bench import report, targets
from tests.bench.delta_log import DeltaLog
from tests.bench.figures import Row, show
from tests.bench.freshness import BATCH, show_files
from tests.bench.load import Plan, run_apart
from tests.bench.made_records import CATALOG, ENDPOINTS, SCHEMA, Records, produce
from tests.bench.process import table_job
from tests.own_broker import own_broker

GATEWAY_CLIENTS, GATEWAY_S, GATEWAY_WARM_UP_S, GATEWAY_TIMES = 64, 8.0, 8.0, 3
WARM_UP = 20_000
# A median of so few batches is no more exact.
SAME = 1.25
# How many records a second the made-up times of a backlog pretend.
PRETENDED_RATE = 100.0
START_S, ARRIVE_S = 300.0, 1_800.0
SPECIFICATION = Path(__file__).parents[1] / "specification" / "ai-gateway.md"
TABLE = f"{CATALOG}.{SCHEMA}.{ENDPOINTS[0]}_request_response"


@dataclass(frozen=True, slots=True)
class Steady:
    """Of one stretch at a steady rate: how long each micro-batch took to land, and from then until it was in all tables."""

    landing_s: list[float]
    spreading_s: list[float]

    def rows(self, when: str) -> list[Row]:
        """As figures."""
        return [
            Row(f"{when}: a micro-batch lands (median)", median(self.landing_s), "s", len(self.landing_s)),
            Row(f"{when}: it is in all tables after that (median)", median(self.spreading_s), "s", len(self.spreading_s)),
        ]


class Tables:
    """The tables under measurement."""

    def __init__(self, warehouse: Path) -> None:
        self.landing = DeltaLog(warehouse / "system" / "internal" / "landing")
        self.usage = DeltaLog(warehouse / "system" / "serving" / "endpoint_usage")
        self.requests = {name: DeltaLog(warehouse / CATALOG / SCHEMA / f"{name}_request_response") for name in ENDPOINTS}

    @property
    def spread(self) -> list[DeltaLog]:
        """All that each batch goes to."""
        return [self.usage, *self.requests.values()]

    def hold(self, unique: dict[str, int]) -> bool:
        """Whether every row is where it should be."""
        spread = [self.usage.look().rows >= sum(unique.values())]
        return all([*spread, *(self.requests[name].look().rows >= count for name, count in unique.items())])

    def joined(self, since_s: float) -> bool:
        """Whether the job that started at `since_s` has joined the files of all these tables, as far as it does that when idle."""
        return all(_commits_apart(table.look(), since_s) < COMMITS_WHEN_IDLE for table in (self.landing, *self.spread))


def _commits_apart(table: DeltaLog, since_s: float) -> int:
    joined_s = max((commit.at_s for commit in table.commits if commit.operation == "OPTIMIZE"), default=0.0)
    return sum(commit.at_s > max(joined_s, since_s) for commit in table.commits)


def gateway_rate(folder: Path) -> float:
    """Requests a second through the gateway without a table job, as `python -m tests.bench` measures them; the median of a few."""
    with targets.upstream(folder) as upstream_url, targets.sluice(upstream_url, folder, tables=False) as door:
        plan = Plan(door.url, door.headers, targets.BODY, GATEWAY_CLIENTS, GATEWAY_S, GATEWAY_WARM_UP_S)
        return median(float(run_apart(plan)["requests_per_s"]) for _ in range(GATEWAY_TIMES))


def dashboard_query() -> str:
    """The specification's, of the largest table."""
    query = re.search(r"```sql\n(WITH hourly_stats .*?);\n```", SPECIFICATION.read_text(encoding="utf-8"), re.S)
    assert query is not None
    return query[1].replace("my_catalog.my_schema.my_prefix_request_response", TABLE)


def wait(console: Console, what: str, condition: Callable[[], bool]) -> None:
    """Return when it holds. Raises TimeoutError after ARRIVE_S."""
    deadline = time.monotonic() + ARRIVE_S
    with console.status(what):
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {ARRIVE_S:.0f} s")
            time.sleep(0.5)


def steady(console: Console, settings: Settings, tables: Tables, records: Records, log: Path, rate: float, seconds: float) -> Steady:
    """Measure a stretch of `seconds`, after as long a one of half its length that is not measured."""
    uvloop.run(produce(settings, records, int(rate * seconds / 2), rate))
    before, begun_s = len(BATCH.findall(log.read_text())), time.time()
    uvloop.run(produce(settings, records, int(rate * seconds), rate))
    ended_s = time.time()
    wait(console, "waiting for the rows", lambda: tables.hold(records.unique))
    landing_s = [int(ms) / 1000 for _, ms in BATCH.findall(log.read_text())[before:]]
    return Steady(landing_s, [lag for at_s, lag in spreading(tables) if begun_s < at_s < ended_s])


def spreading(tables: Tables) -> list[tuple[float, float]]:
    """For each batch when it had landed, and how long after that it was in the last of the tables."""
    tables.landing.look()
    found = []
    for landed in tables.landing.commits:
        if landed.rows:
            reached = [
                next((c.at_s for c in t.commits if c.reached is not None and c.reached >= landed.version), None) for t in tables.spread
            ]
            times = [at_s for at_s in reached if at_s is not None]
            if len(times) == len(reached):
                found.append((landed.at_s, max(times) - landed.at_s))
    return found


def throughput(log: DeltaLog, since_s: float) -> tuple[float, float, float]:
    """Rows a second from the first commit after `since_s` on: of all, of the first quarter of the rows, and of the last."""
    commits = [c for c in log.look().commits if c.rows and c.at_s > since_s]
    points, total = [(commits[0].at_s, 0)], 0
    for commit in commits[1:]:
        total += commit.rows
        points.append((commit.at_s, total))

    def rate(low: float, high: float) -> float:
        part = [p for p in points if low * total <= p[1] <= high * total]
        return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0]) if len(part) > 1 else 0.0

    return rate(0, 1), rate(0, 0.25), rate(0.75, 1)


def dashboards(settings: Settings, console: Console) -> list[Row]:
    """Seconds of the queries, each twice in a session of its own in this process."""
    spark = spark_session(settings)
    figures = []
    for what, act, wanted_s in (
        ("the specification's dashboard query", lambda: run_in(spark, dashboard_query(), settings.warehouse_dir, "table"), 10.0),
        ("sluice dashboard, all its tables", lambda: run_dashboard(spark, settings.warehouse_dir, 7), None),
    ):
        for when, goal in (("first in the session", None), ("warm", wanted_s)):
            begun_s = time.monotonic()
            act()
            figures.append(Row(f"{what}, {when}", time.monotonic() - begun_s, "s", 1, goal, at_least=False))
    spark.stop()
    return figures


def main() -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tables", description="The table job alone, with small and large tables.")
    parser.add_argument("--rows", type=int, default=1_250_000, help="records of the backlog; eight tenths and more go into one table")
    parser.add_argument("--rate", type=float, default=1_000.0, help="records a second where it is steady")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each steady stretch is measured")
    args = parser.parse_args()
    # Told to end, it ends broker and job too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console, records, figures = Console(width=160), Records(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="sluice-tables-") as name, console.status("measuring the gateway"):
        gateway = gateway_rate(Path(name))
    console.print(f"the gateway without a table job: {gateway:,.0f} requests/s")
    with tempfile.TemporaryDirectory(prefix="sluice-tables-") as name, own_broker(Path(name)) as settings:
        tables, log = Tables(settings.warehouse_dir), Path(name, "job.log")
        uvloop.run(produce(settings, records, WARM_UP))
        with table_job(settings, log, START_S):
            wait(console, "warming up", lambda: tables.hold(records.unique))
            small = steady(console, settings, tables, records, log, args.rate, args.seconds)
        with console.status(f"making {args.rows:,} records"):
            begun_s = time.monotonic()
            uvloop.run(produce(settings, records, args.rows, spread_s=args.rows / PRETENDED_RATE))
        console.print(f"{args.rows:,} records made in {time.monotonic() - begun_s:.0f} s")
        begun_s = began_job_s = time.time()
        log = Path(name, "job-2.log")
        with table_job(settings, log, START_S):
            console.print(f"the job started again in {time.time() - begun_s:.1f} s")
            wait(console, "the backlog is worked off", lambda: tables.hold(records.unique))
            landed, spread = throughput(tables.landing, begun_s), throughput(tables.usage, begun_s)
            joining = steady(console, settings, tables, records, log, args.rate, args.seconds)
            wait(console, "the files are joined", lambda: tables.joined(began_job_s))
            large = steady(console, settings, tables, records, log, args.rate, args.seconds)
            begun_s = time.monotonic()
            seconds = time.time() - began_job_s
            ask(dashboard_query(), settings, "table")
            console.print(f"the dashboard query through the running job: {time.monotonic() - begun_s:.1f} s")
        show_files(console, settings.warehouse_dir, log, seconds)
        rows = {log.folder.name: log.look().rows for log in tables.spread}
        wanted = sum(records.unique.values())
        figures = dashboards(settings, console)
    backlog = [
        Row(f"backlog, {what} a second: {of}", rate, "/s", args.rows, goal)
        for what, rates, goal in (("landed", landed, None), ("in all tables", spread, 2.0 * gateway))
        for of, rate in zip(("all", "first quarter", "last quarter"), rates, strict=True)
    ]
    ratios = [
        Row(f"{what}, large to small", median(of_large) / median(of_small), "", len(of_large), SAME, at_least=False)
        for what, of_large, of_small in (
            ("landing", large.landing_s, small.landing_s),
            ("spreading", large.spreading_s, small.spreading_s),
        )
    ]
    about = report.machine()
    console.print(f"{about['cpu']}, {about['cores']} cores; {args.rate:g} records/s where steady; {records.made:,} records made")
    of_steady = [
        *small.rows("small tables"), *joining.rows("large tables, files being joined"), *large.rows("large tables"), *ratios
    ]  # fmt: skip
    show([backlog, of_steady, figures])
    exact = rows["endpoint_usage"] == wanted and all(rows[f"{n}_request_response"] == count for n, count in records.unique.items())
    console.print(f"rows: {rows}; of {wanted:,} requests: {'all, once' if exact else 'NOT as it should be'}")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
