"""`sluice doctor`: what is wrong with this installation, and what to do about it. Exit status 1 where something is.

It only looks: nothing is started, created or changed. Each finding is a line; checks that need the broker are left out, and said to
be, where it doesn't answer. What it looks at on Kafka stands in stack/broker_checks.py.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import typer

from pipeline.cli.api import with_kafka_of
from pipeline.cli.terminal import KAFKA_SETTINGS, errors, output, with_settings
from pipeline.settings import Settings
from pipeline.stack.data_folder import DataFolder, StackState
from pipeline.stack.finding import Finding
from pipeline.stack.ports import is_free, is_listening

LOW_DISK_BYTES, LITTLE_DISK_BYTES = 1 << 30, 5 << 30
# The table job writes its status every few seconds while it runs.
STATUS_AGE_S = 60.0
MUCH_BEHIND = 50_000
# Tables that are seldom read are written every minute or so, by design.
MANY_BATCHES = 200
STYLES = {"good": "green", "hint": "yellow", "bad": "bold red"}


@with_settings(*KAFKA_SETTINGS, "data", "warehouse", "bind", "port")
def doctor(settings: Settings) -> None:
    """Say what is wrong with this installation, and what to do about it."""
    folder = DataFolder(settings.data)
    state = folder.read_state()
    settings = with_kafka_of(state, settings)
    findings = [*_machine(), *_files(folder, settings), *_parts(folder, state, settings)]
    with errors.status("asking the broker ..."):
        from pipeline.stack.broker_checks import examine

        findings += asyncio.run(examine(settings))
    findings += _table_job(folder, state)
    for finding in findings:
        output.print(f"[{STYLES[finding.level]}]{finding.level:>4}[/]  ", end="")
        output.print(finding.text, markup=False, highlight=False)
    wrong = sum(f.level == "bad" for f in findings)
    output.print(f"\nKafka bootstrap address: {settings.kafka}", markup=False, highlight=False)
    if wrong:
        output.print(f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong", style="bold red")
        raise typer.Exit(1)
    output.print("nothing is wrong", style="green")


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("good", f"Python {version}")
    from pipeline.stack.jars import JavaMissing, find_java

    try:
        yield Finding("good", f"Java at {find_java()}")
    except JavaMissing as exc:
        yield Finding("bad", exc.message)


def _files(folder: DataFolder, settings: Settings) -> Iterator[Finding]:
    for what, path in (("data folder", folder.path), ("warehouse", settings.warehouse_dir)):
        if not path.exists():
            yield Finding("hint", f"{what} {path} is not there yet; the first `sluice up` makes it")
        elif not _writable(path):
            yield Finding("bad", f"{what} {path} can't be written by this user; change its owner: chown -R $(id -un) {path}")
        else:
            yield Finding("good", f"{what} {path}")
    if folder.path.exists() and stat.S_IMODE(folder.path.stat().st_mode) & 0o077:
        yield Finding("hint", f"other users may read {folder.path}, which holds prompts and answers; close it: chmod 700 {folder.path}")
    if folder.token_file.exists() and stat.S_IMODE(folder.token_file.stat().st_mode) & 0o077:
        yield Finding("bad", f"other users may read the admin token; close it: chmod 600 {folder.token_file}")
    existing = next(p for p in (folder.path, *folder.path.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / (1 << 30):.1f} GiB free on the disk of {existing}"
    if free < LOW_DISK_BYTES:
        yield Finding("bad", f"{text}: Kafka stops when it is full; make room")
    else:
        yield Finding("hint" if free < LITTLE_DISK_BYTES else "good", text)


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK)


def _parts(folder: DataFolder, state: StackState | None, settings: Settings) -> Iterator[Finding]:
    """The stack of the data folder: each part, and the port of the ingress."""
    if state is None or not _alive(state.supervisor) or all(p.pid is None for p in state.parts.values()):
        yield Finding("hint", f"no stack runs on {folder.path}; start one with `sluice up`")
        if not is_free(settings.port, settings.bind):
            yield Finding("hint", f"port {settings.port} on {settings.bind} is taken; `sluice up` needs another: --port 0 picks a free one")
        return
    for name, part in state.parts.items():
        log = folder.logs / f"{name}.log"
        if part.pid is None or not _alive(part.pid):
            yield Finding("bad", f"{name} is not running ({part.restarts} restarts); see {log}")
        elif not part.ready:
            yield Finding("bad", f"{name} (process {part.pid}) is not ready yet; see {log}")
        elif part.restarts:
            yield Finding("hint", f"{name} runs (process {part.pid}), after {part.restarts} restarts; see {log}.1 and {log}")
        else:
            yield Finding("good", f"{name} runs (process {part.pid})")
    address, _, port = state.host.removeprefix("http://").rpartition(":")
    if not is_listening(address, int(port)):
        yield Finding("bad", f"nothing listens at {state.host}; see {folder.logs / 'ingress.log'}")
    else:
        yield Finding("good", f"the ingress listens at {state.host}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _table_job(folder: DataFolder, state: StackState | None) -> Iterator[Finding]:
    """What the table job says of itself in DATA/status/tables.json."""
    file = folder.path / "status" / "tables.json"
    log = folder.logs / "tables.log"
    runs = state is not None and "tables" in state.parts
    try:
        status = orjson.loads(file.read_bytes())
        age_s = time.time() - status["updated_ms"] / 1000
        behind, targets = status["kafka_records_behind"] or 0, dict(status["targets"])
    except (OSError, ValueError, KeyError, TypeError):
        if runs:
            yield Finding("bad", f"the table job has not said how it is ({file} can't be read); see {log}")
        return
    if runs and age_s > STATUS_AGE_S:
        yield Finding("bad", f"the table job was last heard of {age_s:.0f} s ago; see {log}")
    if behind > MUCH_BEHIND:
        yield Finding("hint", f"the table job is {behind} records behind; it catches up by itself, and nothing is lost for seven days")
    if status.get("alerts_problem"):
        yield Finding("bad", f"alerts: {status['alerts_problem']}")
    failing = {name: told["error"] for name, told in targets.items() if told.get("error")}
    for name, error in sorted(failing.items()):
        yield Finding("bad", f"table {name} can't be written, its rows wait: {error}")
    slow = {
        name: told["lag_batches"] for name, told in targets.items() if name not in failing and told.get("lag_batches", 0) > MANY_BATCHES
    }
    for name, lag in sorted(slow.items()):
        yield Finding("hint", f"table {name} is {lag} batches behind; see {log}")
    if not failing and not slow:
        yield Finding("good", f"the table job: {len(targets)} tables, {behind} records behind")
