"""`python -m tests.faults`: the fault suite by hand, as long as you like; prints what happened and what was found.

For each seed a fresh stack with two workers, on which the troubles follow each other, each under a load of its own.
Exit status 1 on any violation.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.faults.checks import KINDS
from tests.faults.run import Plan, Verdict, run
from tests.faults.troubles import TROUBLES
from tests.running import Stack, rows_reader

SHOWN = 10
# How often each trouble happens, unless told otherwise.
TIMES = {"kills": 2, "stops": 3, "drains": 4, "comings": 10}


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Load on a stack whose parts are in trouble meanwhile.")
    parser.add_argument("--only", choices=TROUBLES, action="append", help="this trouble alone; may stand several times")
    parser.add_argument("--requests", type=int, default=10_000, help="under each trouble")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--times", type=int, help="how often each trouble happens (kills: to each part)")
    parser.add_argument("--seed", type=int, action="append", help="may stand several times; each has a fresh stack")
    args = parser.parse_args()
    console = Console()
    bad = 0
    for seed in args.seed or [1]:
        with tempfile.TemporaryDirectory(prefix="sluice-faults-") as folder, Progress(console=console) as progress:
            data = Path(folder) / "data"
            stack = Stack(data, ["--workers", "2"], {}, rows_reader(data))
            stack.start()
            try:
                for name in args.only or TROUBLES:
                    plan = Plan(name, args.times or TIMES[name], args.requests, args.clients, seed)
                    bar = progress.add_task(plan.name, total=plan.requests)
                    verdict = asyncio.run(run(stack, plan, lambda done, bar=bar: progress.update(bar, completed=done)))
                    progress.update(bar, completed=plan.requests)
                    _show(console, verdict)
                    bad += bool(verdict.violations)
            finally:
                stack.stop()
    return 1 if bad else 0


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


if __name__ == "__main__":
    sys.exit(main())
