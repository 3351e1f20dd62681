"""`python -m tests.bench.tail`: what slow calls do to the others, as ratios of 99th percentiles within one run, at a steady rate.

    long calls   p99 of calls that are answered at once, while one of a hundred calls takes LONG_S, to p99 without those
    in flight    p99 of what the gateway adds to a call, MANY under way at once to FEW under way at once, at the same rate: only how
                 long the provider takes differs. The provider alone is measured in the same way, since its delay is in the sum.

Rounds of both arms alternate on one running stack, and an arm is measured only when what makes it has filled up. Latency counts from the
moment at which a request was due (open_load.py). Both ratios are shown: of all rounds' latencies together, and the median of
the rounds' own. Exit status 1 where the stack can't be started or a measured request is not answered with 200; a ratio over its bound is
marked, and changes no status.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

import httpx
from rich.console import Console
from rich.table import Table

from tests.bench import report, targets
from tests.bench.open_load import Found, Phase, Plan, run_apart
from tests.bench.process import NotReady

LONG_S, LONG_EVERY, LONG_BOUND = 60.0, 100, 1.2
FEW, MANY, IN_FLIGHT_BOUND = 50, 2_000, 2.0
# The gateway's own bound is 2,000 for each endpoint: a little more, so that none of the calls has to wait for another's end.
SETTINGS = {"SLUICE_MAX_IN_FLIGHT_PER_ENDPOINT": str(MANY * 3 // 2)}
# Until what came before is over and forgotten. At first also until the JVMs have compiled what they run.
SETTLE_S, WARM_UP_S = 5.0, 30.0
WITHOUT, WITH = "without", "with"


def long_calls(seconds: float, rounds: int) -> list[Phase]:
    """Calls that are answered at once, without and with one of LONG_EVERY that takes LONG_S; these are given up at the end of a round."""
    return [
        phase
        for number in range(rounds)
        for phase in (
            Phase("", SETTLE_S if number else WARM_UP_S, "short"),
            Phase(WITHOUT, seconds, "short"),
            Phase("", LONG_S + SETTLE_S, "short", "long", LONG_EVERY),
            Phase(WITH, seconds, "short", "long", LONG_EVERY, give_up=True),
        )
    ]


def in_flight(few: str, many: str, many_s: float, seconds: float, rounds: int) -> list[Phase]:
    """Calls of `few`, then of `many`, which take `many_s`; what is measured of these ends among others of the kind."""
    return [
        phase
        for _ in range(rounds)
        for phase in (
            Phase("", many_s + SETTLE_S, few),
            Phase(str(FEW), seconds, few),
            Phase("", many_s + SETTLE_S, many),
            Phase(str(MANY), seconds, many),
            Phase("", many_s, many),
        )
    ]


def p99(latencies_ms: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(latencies_ms, n=100)[98]


def ratios(founds: list[Found], base: str, other: str, taken_s: dict[str, float]) -> tuple[float, float]:
    """p99 of `other` to that of `base`, of all rounds together and as the median of the rounds; less what the provider takes."""
    added = {
        arm: [[ms - taken_s[arm] * 1000 for ms in found.latencies_ms] for found in founds if found.name == arm] for arm in (base, other)
    }
    together = {arm: p99([ms for one in rounds for ms in one]) for arm, rounds in added.items()}
    return together[other] / together[base], median(p99(b) / p99(a) for a, b in zip(added[base], added[other], strict=True))


def _show(table: Table, what: str, founds: list[Found], arms: tuple[str, str], taken_s: dict[str, float], bound: float | None) -> None:
    for arm in arms:
        those = [found for found in founds if found.name == arm]
        all_ms = [ms for found in those for ms in found.latencies_ms]
        added = [ms - taken_s[arm] * 1000 for ms in all_ms]
        cells, not_200 = ["", "", ""], sum(sum(found.other.values()) for found in those)
        if arm == arms[1]:
            pooled, by_round = ratios(founds, *arms, taken_s)
            kept = "" if bound is None else f"≤ {bound:g}: {'yes' if max(pooled, by_round) <= bound else 'NO'}"
            cells = [f"{pooled:.2f}", f"{by_round:.2f}", kept]
        table.add_row(
            what, arm, f"{sum(found.in_flight for found in those) / len(those):,.0f}", f"{len(added):,}", f"{median(added):.2f} ms",
            f"{p99(added):.1f} ms", f"{max(added):.0f} ms", f"{p99(all_ms):,.0f} ms", *cells, str(not_200),
        )  # fmt: skip
    table.add_section()


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tail", description="What slow calls do to the others.")
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each arm of a round is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["long", "in-flight"])
    parser.add_argument("--no-tables", action="store_true", help="without the table job")
    args = parser.parse_args()
    taken_s = {str(FEW): FEW / args.rate, str(MANY): MANY / args.rate}
    few, many = (f"slow-{seconds:.6f}" for seconds in taken_s.values())
    models = {"short": "bench", "long": f"slow-{LONG_S:g}", "few": few, "many": many}
    long: list[Found] = []
    alone: list[Found] = []
    through: list[Found] = []

    def run(what: str, door: targets.Door, phases: list[Phase]) -> list[Found]:
        print(f"measuring: {what}, {sum(phase.seconds for phase in phases):.0f} s", file=sys.stderr, flush=True)
        return run_apart(Plan(door.url, door.headers, targets.BODY, args.rate, phases, max(LONG_S, MANY / args.rate)))

    try:
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, targets.upstream(Path(name)) as upstream_url:
            if args.only != "long":
                with targets.direct(upstream_url, Path(name)) as door:
                    alone = run("the provider alone", door, in_flight(few, many, MANY / args.rate, args.seconds, 1))
            with targets.sluice(upstream_url, Path(name), tables=not args.no_tables, settings=SETTINGS) as door:
                for endpoint, model in models.items():
                    targets.create(door, targets.endpoint(upstream_url, endpoint, model))
                if args.only != "in-flight":
                    long = run("long calls", door, long_calls(args.seconds, args.rounds))
                if args.only != "long":
                    through = run("in flight", door, in_flight("few", "many", MANY / args.rate, args.seconds, args.rounds))
    except (NotReady, subprocess.SubprocessError, OSError, httpx.HTTPError) as exc:
        print(f"bench: {exc!r}", file=sys.stderr)
        return 1
    founds = [*long, *alone, *through]
    if not all(found.latencies_ms for found in founds) or any(found.other for found in founds):
        print(f"bench: not everything was answered with 200: {[(found.name, found.other) for found in founds]}", file=sys.stderr)
    about, tables = report.machine(), "no table job" if args.no_tables else "with the table job"
    where = f"{about['cpu']}, {about['cores']} cores; {args.rate:g} requests/s, {args.rounds} rounds of {args.seconds:g} s, {tables}"
    table = Table(title=where)
    names = ("under way", "n", "p50 added", "p99 added", "most", "p99 in all", "p99 ratio", "median of rounds", "bound", "not 200")
    for heading in ("", "", *names):
        table.add_column(heading, justify="left" if not heading else "right")
    if long:
        _show(table, "1 % last 60 s", long, (WITHOUT, WITH), dict.fromkeys((WITHOUT, WITH), 0.0), LONG_BOUND)
    if alone:
        _show(table, "in flight, provider alone", alone, (str(FEW), str(MANY)), taken_s, None)
        _show(table, "in flight", through, (str(FEW), str(MANY)), taken_s, IN_FLIGHT_BOUND)
    Console(width=170).print(table)
    return 1 if any(found.other for found in founds) else 0


if __name__ == "__main__":
    sys.exit(main())
