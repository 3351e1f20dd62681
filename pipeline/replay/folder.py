"""One replay's folder, DATA/replays/ID: what is to be sent and what is done, so that a replay that was cut off goes on where it was.

    replay.json       from which table, which rows, to which endpoint; how many were skipped; whether it is finished
    requests.jsonl    an Original a line, written before the first is sent. Text: readable for its owner only, gone when it is finished
    results.jsonl     a Result a line, as each comes in; gone when it is finished, since the table has them then
    page.html         the comparison

A line counts when it is whole: one that a kill cut off is dropped, and its request is sent again under the same key. One process
works on a replay at a time. Fails with ReplayFailed, DataFolderUnusable.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipeline.errors import SluiceError
from pipeline.replay.records import Original, Result
from pipeline.stack.data_folder import write_whole

PLAN, REQUESTS, RESULTS = "replay.json", "requests.jsonl", "results.jsonl"


class ReplayFailed(SluiceError):
    """The replay can't begin, or can't go on now."""


class Plan(BaseModel):
    """What a replay is: the same table, rows and endpoint are the same replay until it is finished."""

    replay_id: str
    table: str
    where: str
    endpoint: str
    limit: int | None
    requests: int
    skipped: dict[str, int]
    finished: bool = False

    def is_of(self, table: str, where: str, endpoint: str, limit: int | None) -> bool:
        """Whether these options ask for this replay."""
        return (self.table, self.where, self.endpoint, self.limit) == (table, where, endpoint, limit)


class Replay:
    """A replay whose requests are chosen."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self.page = path / "page.html"
        self._requests, self._results = path / REQUESTS, path / RESULTS

    def originals(self) -> Iterator[Original]:
        """The requests, in order, read as they are needed."""
        with self._requests.open("rb") as file:
            for line in file:
                yield Original.model_validate_json(line)

    def results(self) -> dict[int, Result]:
        """What is done, by place. A cut-off last line is removed, and one that can't be read does not count."""
        if not self._results.exists():
            return {}
        with self._results.open("r+b") as file:
            lines = file.read()
            whole = lines.rfind(b"\n") + 1
            if whole < len(lines):
                file.truncate(whole)
        done = {}
        for line in lines[:whole].splitlines():
            with suppress(ValidationError):
                result = Result.model_validate_json(line)
                done[result.place] = result
        return done

    def add(self, result: Result) -> None:
        """Note that one is done, in a single write. Raises ReplayFailed."""
        line = result.model_dump_json().encode() + b"\n"
        try:
            with self._results.open("ab", buffering=0) as file:
                whole = file.write(line) == len(line)
        except OSError:
            whole = False
        if not whole:
            raise ReplayFailed(f"{self._results} can't be written; make room on the disk, then the same command goes on")

    def finish(self) -> None:
        """Everything is in the table: the text goes."""
        self.plan = self.plan.model_copy(update={"finished": True})
        _write_plan(self.path, self.plan)
        self._requests.unlink(missing_ok=True)
        self._results.unlink(missing_ok=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Take the replay for this process. Raises ReplayFailed where another has it, or has finished it meanwhile."""
        with locked(self.path):
            plan = _read_plan(self.path)
            if plan is None or plan.finished:
                raise ReplayFailed(f"another process has just finished replay {self.plan.replay_id}; look at {self.page}")
            yield


class Replays:
    """All replays of a data folder."""

    def __init__(self, data: Path) -> None:
        self.path = data / "replays"

    def unfinished(self, table: str, where: str, endpoint: str, limit: int | None) -> Replay | None:
        """The newest unfinished replay of these options."""
        for path in sorted(self.path.glob("*/"), reverse=True):
            plan = _read_plan(path)
            if plan is not None and not plan.finished and plan.is_of(table, where, endpoint, limit):
                return Replay(path, plan)
        return None

    def new(self, table: str, where: str, endpoint: str, limit: int | None, requests: Iterator[Original | str]) -> Replay:
        """A replay of `requests`, in which a text is the reason why one is skipped. It is there when all of them are written."""
        replay_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        path = self.path / replay_id
        try:
            path.mkdir(mode=0o700, parents=True)
            written, skipped = 0, dict[str, int]()
            descriptor = os.open(path / REQUESTS, os.O_WRONLY | os.O_CREAT, 0o600)
            with locked(path), os.fdopen(descriptor, "wb") as file:
                for request in requests:
                    if isinstance(request, Original):
                        file.write(request.model_dump_json().encode() + b"\n")
                        written += 1
                    else:
                        skipped[request] = skipped.get(request, 0) + 1
        except OSError as exc:
            raise ReplayFailed(f"{path} can't be written: {exc.strerror}; check the disk and the folder's owner") from None
        plan = Plan(replay_id=replay_id, table=table, where=where, endpoint=endpoint, limit=limit, requests=written, skipped=skipped)
        _write_plan(path, plan)
        return Replay(path, plan)

    def tidy(self) -> None:
        """Remove text that a kill has left behind: of replays that are finished, and of those that never came to have a plan."""
        for path in self.path.glob("*/"):
            with suppress(ReplayFailed), locked(path):
                plan = _read_plan(path)
                if plan is None:
                    shutil.rmtree(path)
                elif plan.finished:
                    Replay(path, plan).finish()

    @contextmanager
    def table(self) -> Iterator[None]:
        """Wait for the table of replays: on a local disk Delta can't tell two writers apart."""
        with (self.path / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on a replay's folder; the kernel lets go of it, however this process ends. Raises ReplayFailed where another has it."""
    with (path / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ReplayFailed(f"another process works on replay {path.name}; wait for it, or stop it") from None
        yield


def _read_plan(path: Path) -> Plan | None:
    try:
        return Plan.model_validate_json((path / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as exc:
        raise ReplayFailed(f"{path / PLAN} can't be read ({type(exc).__name__}); remove that folder to give the replay up") from None


def _write_plan(path: Path, plan: Plan) -> None:
    write_whole(path / PLAN, plan.model_dump_json(indent=1).encode() + b"\n")
