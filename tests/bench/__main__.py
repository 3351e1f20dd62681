"""`python -m tests.bench`: all targets in turn, several rounds, each in an order of its own; prints the table and writes the JSON result.

One target runs at a time, with nothing of the others left, all on the same upstream. In each round the upstream is also measured
without anything between, so that latency is what the gateway adds. Exit status 1 where a target could not be started or nothing was
answered.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from tests.bench import report, targets
from tests.bench.load import Plan, run_apart
from tests.bench.process import NotReady

TARGETS: dict[str, Callable[[str, Path], AbstractContextManager[targets.Door]]] = {
    "direct": targets.direct,
    "litellm": targets.litellm,
    "sluice, no tables": partial(targets.sluice, tables=False),
    "sluice": partial(targets.sluice, tables=True),
}
# Not measured, for every target alike: two of the gateway's processes are JVMs, which compile what they run while they run it.
WARM_UP_S = 8.0


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="The gateway against LiteLLM's proxy on the same upstream.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement takes")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument(
        "--only", action="append", choices=[t for t in TARGETS if t != "direct"], help="this target only; may stand several times"
    )
    parser.add_argument("--json", type=Path, help="file for the result", default=Path("bench-result.json"))
    args = parser.parse_args()
    names = args.only or [t for t in TARGETS if t != "direct"]
    if "litellm" in names:
        targets.litellm_environment()
    rounds: list[dict[str, dict[str, Any]]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, targets.upstream(Path(folder)) as upstream_url:
            for number in range(args.rounds):
                order = ["direct", *random.Random(number).sample(names, len(names))]
                rounds.append(
                    {name: _measure(name, upstream_url, Path(folder), args, f"round {number + 1}/{args.rounds}") for name in order}
                )
    except (NotReady, subprocess.SubprocessError, OSError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    if not all(r[n][part]["ok"] for r in rounds for n in r for part in ("one", "many")):
        print(f"bench: a target answered nothing with 200: {orjson.dumps(rounds).decode()}", file=sys.stderr)
        return 1
    about, result = report.machine(), report.summary(rounds)
    report.show(result, about, args.rounds, args.clients)
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": about, "result": result, "rounds": rounds}
    args.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    print(f"written to {args.json}")
    return 0


def _measure(name: str, upstream_url: str, folder: Path, args: argparse.Namespace, where: str) -> dict[str, Any]:
    """One target, started, measured with one client and with many, and stopped."""
    print(f"{where}: {name}", file=sys.stderr, flush=True)
    with TARGETS[name](upstream_url, folder) as door:
        one = run_apart(Plan(door.url, door.headers, targets.BODY, 1, args.seconds, WARM_UP_S))
        many = run_apart(Plan(door.url, door.headers, targets.BODY, args.clients, args.seconds, WARM_UP_S))
    return {"one": one, "many": many}


if __name__ == "__main__":
    sys.exit(main())
