"""`python -m tests.bench.soak`: steady load for as long as you like, a part restarted now and then, and the memory of all parts meanwhile.

    load      the fault run's (tests/faults/load.py): short, slow, streamed and limited requests of four users, each under an
              Idempotency-Key and asked again until it has its final answer
    restarts  one every EVERY requests, in the order of TURNS, by SIGTERM and SIGKILL in turn; what is not restarted carries on, so that a
              worker or ingress lives through at least two EVERY
    memory    of ingress, workers and table job, every second (memory.py)

At the end each request is compared with its row and with the provider's ledger (tests/faults/checks.py). Exit status 1 where anything is
lost, double or mixed up, where a part does not come back, or where a worker's or the ingress' memory grows by more than FLAT_MB for each
10,000 requests between restarts, or by more than STEPS_MB in all. The table job is shown only: a JVM takes its heap, whose size is
bounded, before it gives anything back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from tests.bench import report
from tests.bench.memory import PER_REQUESTS, Life, Memory, draw
from tests.faults.checks import KINDS as VIOLATIONS
from tests.faults.checks import Limit, violations
from tests.faults.load import Load
from tests.faults.run import PER_MINUTE, USERS, create_endpoints, kinds_of, wait_rows
from tests.faults.troubles import end
from tests.running import Stack, rows_reader

# The table job first, since it is the one that may live shortly.
TURNS = ("tables", "worker-0", "ingress", "worker-1")
# A hundred bytes of each request.
FLAT_MB = 1.0
# What taking partitions over may cost in one life, all in all.
STEPS_MB = 20.0
# All that the checks read; whole rows of so many requests would fill this process.
COLUMNS = ("request_id", "requester", "endpoint_name", "status_code", "response", "timestamp_ms", "execution_time_ms")
SEED = 1
# What is finished is remembered for at least as long.
DEADLINE_S = "30"


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart, as it was."""

    part: str
    signal: str
    answered: int
    back_s: float


def plan(requests: int, every: int) -> list[tuple[int, str, signal.Signals]]:
    """What is restarted, and how, after how many answered requests."""
    turns = []
    for number in range((requests - 1) // every):
        how = signal.SIGTERM if (number + number // len(TURNS)) % 2 == 0 else signal.SIGKILL
        turns.append(((number + 1) * every, TURNS[number % len(TURNS)], how))
    return turns


async def restarts(stack: Stack, turns: list[tuple[int, str, signal.Signals]], answered: Callable[[], int]) -> list[Restart]:
    """Do as planned, one after the other; what was done."""
    done: list[Restart] = []
    for after, part, how in turns:
        while answered() < after:
            await asyncio.sleep(0.02)
        at = answered()
        done.append(Restart(part, how.name, at, await end(stack, part, how)))
    return done


async def soak(
    stack: Stack, load: Load, turns: list[tuple[int, str, signal.Signals]], memory: Memory, watch: Callable[[int], None]
) -> list[Restart]:
    """Load and restarts at once, with a look at the memory each second; the restarts that were done."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(load.run())
        restarting = group.create_task(restarts(stack, turns, lambda: load.done))
        while not sending.done():
            pids = {name: part.pid for name, part in stack.state().parts.items() if name in TURNS and part.pid is not None}
            memory.look(pids, time.monotonic() - began_s, load.done)
            watch(load.done)
            await asyncio.wait([sending], timeout=1.0)
    return restarting.result()


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description="Steady load, restarts, and the parts' memory.")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--every", type=int, default=20_000, help="requests from one restart to the next")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second, at most")
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--window-s", type=int, default=60, help="how long the gateway remembers a finished request; it fills memory first")
    parser.add_argument("--plot", type=Path, default=Path("bench-soak.png"))
    args = parser.parse_args()
    # Told to end, it ends the stack too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(width=150)
    memory = Memory()
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as folder, _progress(console) as progress:
        data = Path(folder) / "data"
        settings = {"SLUICE_REPEAT_WINDOW_S": str(args.window_s), "SLUICE_DEADLINE_S": DEADLINE_S}
        stack = Stack(data, ["--workers", "2"], settings, rows_reader(data, COLUMNS))
        bar = progress.add_task("answered", total=args.requests)
        stack.start()
        try:
            endpoints = create_endpoints(stack, "soak")
            users = {user: stack.token(user) for user in USERS}
            load = Load(lambda: stack.host, users, kinds_of(endpoints), args.requests, args.clients, SEED, "soak", args.rate)
            began_s = time.monotonic()
            done = asyncio.run(
                soak(stack, load, plan(args.requests, args.every), memory, lambda answered: progress.update(bar, completed=answered))
            )
            seconds = time.monotonic() - began_s
            progress.add_task("waiting for the rows", total=None)
            rows = wait_rows(stack, endpoints, {sent.answered_id for sent in load.sent if sent.status})
        except ExceptionGroup as exc:
            # What was seen until then is worth as much.
            console.print(f"broken off: {exc.exceptions[0]}")
            _show(console, memory.lives, args.window_s * 1.5)
            draw(memory.lives, args.plot, "broken off")
            return 1
        finally:
            stack.stop()
        with (data / "demo-ledger.jsonl").open(encoding="utf-8") as ledger:
            calls = [json.loads(line) for line in ledger]
    found = violations(load.sent, rows, calls, [Limit(endpoints["limited"], PER_MINUTE)])
    about = report.machine()
    title = f"{about['cpu']}, {about['cores']} cores, Python {about['python']}: {len(load.sent):,} requests in {seconds:.0f} s"
    statuses, again = Counter(sent.status for sent in load.sent), sum(sent.tries for sent in load.sent) - len(load.sent)
    console.print(
        f"{title}; {again} asked again, statuses {dict(sorted(statuses.items()))}, {len(rows):,} rows, {len(calls):,} calls of the "
        f"provider, longest wait {max(sent.took_s for sent in load.sent):.1f} s"
    )
    console.print("restarted: " + ", ".join(f"{r.part} by {r.signal} at {r.answered:,} (back after {r.back_s:.1f} s)" for r in done))
    counts = Counter(violation.kind for violation in found)
    checked = Table(*VIOLATIONS)
    checked.add_row(*(str(counts[kind]) for kind in VIOLATIONS))
    console.print(checked)
    for violation in found[:10]:
        console.print(f"{violation.kind}: {violation.request_id}: {violation.says}")
    flat = _show(console, memory.lives, args.window_s * 1.5, [restart.answered for restart in done])
    draw(memory.lives, args.plot, title)
    console.print(f"drawn in {args.plot}")
    return 0 if flat and not found else 1


def _progress(console: Console) -> Progress:
    return Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)


def _show(console: Console, lives: list[Life], warm_up_s: float, restarted: Sequence[int] = ()) -> bool:
    """Print the lives; whether all that are judged are flat. `restarted`: after how many requests each restart was."""
    table = Table(title=f"resident memory; slopes without the first {warm_up_s:.0f} s of each life")
    more = f"more for {PER_REQUESTS:,} requests"
    for heading in ("part", "from request", "requests", "begins with", "warm", "most", "ends with", more, "flat"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    all_flat = True
    for life in sorted(lives, key=lambda life: (life.part, life.samples[0].answered)):
        slope, counted = life.slope(warm_up_s, restarted), life.settled(warm_up_s)
        judged = slope is not None and life.part != "tables"
        mb = [sample.mb for sample in life.samples]
        flat = slope is None or (slope <= FLAT_MB and mb[-1] - counted[0].mb <= STEPS_MB)
        all_flat = all_flat and (flat or not judged)
        table.add_row(
            life.part, f"{life.samples[0].answered:,}", f"{life.requests:,}",
            *(f"{value:.0f} MB" if value else "" for value in (mb[0], counted[0].mb if counted else None, max(mb), mb[-1])),
            "too short" if slope is None else f"{slope:+.2f} MB", ("yes" if flat else "NO") if judged else "",
        )  # fmt: skip
    console.print(table)
    return all_flat


if __name__ == "__main__":
    sys.exit(main())
