"""`python -m tests.faults`: the fault suite, as long as you like; prints what happened, what was found, and the matrix of all faults.

    for each seed   a fresh stack with two workers, on which the troubles follow each other, each under a load of its own
    once            the tests that the matrix names (--no-tests leaves them out)

Exit status 1 on any violation, and where a test fails.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.faults.checks import KINDS
from tests.faults.matrix import MATRIX, Row
from tests.faults.matrix import tests as named_tests
from tests.faults.run import Plan, Verdict, run
from tests.faults.troubles import TROUBLES
from tests.running import Stack, rows_reader

SHOWN = 10
# How often each trouble happens, unless told otherwise.
TIMES = {"kills": 2, "stops": 3, "drains": 4, "comings": 10}


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Load on a stack whose parts are in trouble meanwhile.")
    parser.add_argument("--only", choices=TROUBLES, action="append", help="this trouble alone, and no tests; may stand several times")
    parser.add_argument("--requests", type=int, default=10_000, help="under each trouble")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--times", type=int, help="how often each trouble happens (kills: to each part)")
    parser.add_argument("--seed", type=int, action="append", help="may stand several times; each has a fresh stack")
    parser.add_argument("--no-tests", action="store_true", help="the troubles alone")
    args = parser.parse_args()
    # Told to end, it ends the stack too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(width=150)
    plans = [
        [Plan(name, args.times or TIMES[name], args.requests, args.clients, seed) for name in args.only or TROUBLES]
        for seed in args.seed or [1]
    ]
    verdicts = [verdict for of_seed in plans for verdict in _on_a_fresh_stack(of_seed, console)]
    failed = {verdict.plan.trouble for verdict in verdicts if verdict.violations}
    results = {} if args.only or args.no_tests else _run_tests(named_tests())
    if not args.only:
        console.print(_matrix({verdict.plan.trouble for verdict in verdicts}, failed, results))
    return 1 if failed or any(bad for _, bad in results.values()) else 0


def _on_a_fresh_stack(plans: list[Plan], console: Console) -> list[Verdict]:
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="sluice-faults-") as folder, Progress(console=console) as progress:
        data = Path(folder) / "data"
        stack = Stack(data, ["--workers", "2"], {}, rows_reader(data))
        stack.start()
        try:
            for plan in plans:
                bar = progress.add_task(plan.name, total=plan.requests)
                verdict = asyncio.run(run(stack, plan, lambda done, bar=bar: progress.update(bar, completed=done)))
                progress.update(bar, completed=plan.requests)
                _show(console, verdict)
                verdicts.append(verdict)
        finally:
            stack.stop()
    return verdicts


def _show(console: Console, verdict: Verdict) -> None:
    sent = verdict.sent
    tries = sum(s.tries for s in sent)
    console.print(
        f"{verdict.plan.name}: {len(sent)} requests in {verdict.seconds:.0f} s, {tries - len(sent)} asked again, statuses "
        f"{dict(sorted(verdict.statuses.items()))}, {verdict.rows} rows, {verdict.calls} calls of the provider "
        f"({verdict.second_calls} second calls), longest wait {max(s.took_s for s in sent):.1f} s"
    )
    console.print("happened: " + ", ".join(f"{h.what} at {h.answered} ({h.back_s:.1f} s)" for h in verdict.happened))
    table = Table(*KINDS)
    counts = Counter(v.kind for v in verdict.violations)
    table.add_row(*(str(counts[kind]) for kind in KINDS))
    console.print(table)
    for violation in verdict.violations[:SHOWN]:
        console.print(f"{violation.kind}: {violation.request_id}: {violation.says}")


def _run_tests(paths: list[str]) -> dict[str, tuple[int, int]]:
    """File -> how many of its tests passed, and how many did not."""
    with tempfile.TemporaryDirectory(prefix="sluice-faults-") as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-m", "", "-o", "junit_family=xunit1", f"--junitxml={report}", *paths]
        code = subprocess.run(argv, check=False).returncode
        if not report.exists():
            return {"pytest": (0, code)}
        found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  written by the line above
            found[case.get("file", "")]["failure" in {child.tag.replace("error", "failure") for child in case}] += 1
    return {file: (passed, bad) for file, (passed, bad) in found.items()}


def _matrix(ran: set[str], failed: set[str], results: dict[str, tuple[int, int]]) -> Table:
    table = Table("#", "fault", "under load", "tests passed", "failed", "not tried, or elsewhere")
    for row in MATRIX:
        runs = ", ".join(f"{name}: {'FAILED' if name in failed else 'ok'}" for name in row.runs.split() if name in ran)
        passed, bad = _of_row(row, results)
        table.add_row(str(row.number), row.fault, runs, str(passed or ""), str(bad or ""), row.says)
    return table


def _of_row(row: Row, results: dict[str, tuple[int, int]]) -> tuple[int, int]:
    counts = [count for file, count in results.items() if any(file.startswith(test) for test in row.files)]
    return sum(passed for passed, _ in counts), sum(bad for _, bad in counts)


if __name__ == "__main__":
    sys.exit(main())
