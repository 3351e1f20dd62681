"""`python -m tests.faults`: the fault run by hand, as long as you like; prints what happened and what was found.

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
from tests.faults.run import Verdict, run
from tests.running import Stack, rows_reader

SHOWN = 10


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Load on a fresh stack whose parts are killed meanwhile.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kills", type=int, default=2, help="how often each part is killed: a worker, ingress, table job, broker")
    parser.add_argument("--seed", type=int, action="append", help="may stand several times; each is a run on a fresh stack")
    args = parser.parse_args()
    console = Console()
    bad = 0
    for seed in args.seed or [1]:
        with tempfile.TemporaryDirectory(prefix="sluice-faults-") as folder, Progress(console=console) as progress:
            data = Path(folder) / "data"
            stack = Stack(data, ["--workers", "2"], {}, rows_reader(data))
            bar = progress.add_task(f"seed {seed}", total=args.requests)
            stack.start()
            try:
                verdict = asyncio.run(
                    run(stack, args.requests, args.clients, args.kills, seed, lambda done, bar=bar: progress.update(bar, completed=done))
                )
            finally:
                stack.stop()
        _show(console, verdict)
        bad += bool(verdict.violations)
    return 1 if bad else 0


def _show(console: Console, verdict: Verdict) -> None:
    sent = verdict.sent
    tries = sum(s.tries for s in sent)
    console.print(
        f"seed {verdict.seed}: {len(sent)} requests in {verdict.seconds:.0f} s, {tries - len(sent)} asked again, statuses "
        f"{dict(sorted(verdict.statuses.items()))}, {verdict.rows} rows, {verdict.calls} calls of the provider, longest wait "
        f"{max(s.took_s for s in sent):.1f} s"
    )
    console.print("killed: " + ", ".join(f"{k.part} at {k.answered} (back after {k.back_s:.1f} s)" for k in verdict.kills))
    table = Table(*KINDS)
    counts = Counter(v.kind for v in verdict.violations)
    table.add_row(*(str(counts[kind]) for kind in KINDS))
    console.print(table)
    for violation in verdict.violations[:SHOWN]:
        console.print(f"{violation.kind}: {violation.request_id}: {violation.says}")


if __name__ == "__main__":
    sys.exit(main())
