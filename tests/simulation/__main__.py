"""`python -m tests.simulation --seeds N [--from S]`: runs seeds, prints the failing ones; `--story` tells what happened in each."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.run import Result, run, simulated


def main() -> int:
    """Exit code 1 where a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate workers under faults, seed by seed.")
    parser.add_argument("--seeds", type=int, default=2_000, metavar="N", help="how many seeds to run (2000)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="S", help="the first seed (0)")
    parser.add_argument("--story", action="store_true", help="tell what happened in each failing seed")
    parser.add_argument("--all", action="store_true", help="go on after ten failing seeds")
    asked = parser.parse_args()
    failed: list[Result] = []
    totals = dict.fromkeys(("steps", "requests", "calls", "ends", "generations", "runs_beside"), 0)
    begun_s, done = time.perf_counter(), 0
    columns = (TextColumn("seed {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"))
    with simulated(), Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=asked.seeds, failed=0)
        for seed in range(asked.first, asked.first + asked.seeds):
            result = run(seed)
            done += 1
            for name in totals:
                totals[name] += getattr(result, name)
            if result.violations:
                failed.append(result)
                progress.console.print(f"[red]seed {seed}[/red]: {len(result.violations)} violations", highlight=False)
                for found in result.violations[:4]:
                    progress.console.print("    " + found, markup=False, highlight=False, soft_wrap=True)
                if asked.story:
                    progress.console.print("\n".join(result.story), markup=False, highlight=False, soft_wrap=True)
            progress.update(task, advance=1, description=str(seed), failed=len(failed))
            if done % 50 == 0:
                gc.collect()
            if len(failed) >= 10 and not asked.all:
                break
    took_s = time.perf_counter() - begun_s
    shown = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in totals.items())
    print(f"{done:,} seeds in {took_s:.1f} s ({done / took_s * 60:,.0f} a minute): {shown}")
    if failed:
        print(f"failed: {len(failed)}; again with: python -m tests.simulation --seeds 1 --story --from {failed[0].seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
