"""The data folder of one installation: who runs on it, where its parts are, which ports it likes, and the admin's token.

    DATA/lock           held by the running `sluice up`; the kernel lets go of it, however that process ends
    DATA/state.json     process ids, addresses (StackState); the command line finds a running stack by it
    DATA/ports.json     ports of earlier starts, so that addresses in configurations stay true
    DATA/admin-token    mode 0600
    DATA/id             a name of its own, for clusters that several installations share

The broker's log, the tables, checkpoints and logs beside them belong to their parts. Raises DataFolderBusy, DataFolderUnusable.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import SluiceError
from pipeline.stack.ports import becomes_free, free_port, is_free

FORMER_PORT_S = 2.0


class DataFolderBusy(SluiceError):
    """Another `sluice up` runs on it."""


class DataFolderUnusable(SluiceError):
    """It can't be written, or what lies in it can't be read."""


class PartState(BaseModel):
    """One part as it is now; `pid` None: not running (waiting to be started again)."""

    pid: int | None
    ready: bool
    restarts: int = 0


class StackState(BaseModel):
    """What `sluice up` says of itself in state.json. `parts` is empty when it has stopped."""

    model_config = ConfigDict(extra="ignore")

    supervisor: int
    host: str
    kafka: str
    demo_url: str | None = None
    parts: dict[str, PartState] = {}


class DataFolder:
    """Paths and small files of a data folder. The constructor touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.state_file = self.path / "state.json"
        self.token_file = self.path / "admin-token"
        self._ports_file = self.path / "ports.json"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Make the folder (for its owner only) and take it for this process. Raises DataFolderBusy, DataFolderUnusable."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as exc:
            raise DataFolderUnusable(f"the data folder {self.path} can't be written: {exc.strerror}; choose another with --data") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise DataFolderBusy(
                f"another sluice (process {owner}) runs on {self.path}; stop it with: kill {owner}, or choose another folder with --data"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def unlock(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_state(self) -> StackState | None:
        """The state that the running (or last) stack has left; None where there is none that can be read."""
        try:
            return StackState.model_validate_json(self.state_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write_state(self, state: StackState) -> None:
        """Replace state.json as a whole."""
        write_whole(self.state_file, state.model_dump_json(indent=1).encode() + b"\n")

    def read_token(self) -> str | None:
        """The admin's token, or None."""
        try:
            return self.token_file.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    def write_token(self, token: str) -> None:
        """Leave the admin's token, readable for the owner only."""
        write_whole(self.token_file, token.encode() + b"\n", mode=0o600)

    def installation_id(self) -> str:
        """A short name that no other installation has; the same at every start."""
        file = self.path / "id"
        try:
            known = file.read_text(encoding="utf-8").strip()
        except OSError:
            known = ""
        if not known:
            known = secrets.token_hex(4)
            write_whole(file, known.encode() + b"\n")
        return known

    def port(self, name: str, preferred: int | None) -> int:
        """A port for `name`: the one it had before, else the preferred one, else any; the first of them that is free. Remembered.

        The one it had before may be taken for a moment by the process that had it: one that was killed can be gone from the list of
        processes before its sockets are. So that one is waited for, FORMER_PORT_S at most.
        """
        try:
            remembered = orjson.loads(self._ports_file.read_bytes())
        except (OSError, ValueError):
            remembered = {}
        former = remembered.get(name)
        if isinstance(former, int) and becomes_free(former, FORMER_PORT_S):
            chosen = former
        else:
            chosen = preferred if preferred is not None and is_free(preferred) else free_port()
        write_whole(self._ports_file, orjson.dumps(remembered | {name: chosen}))
        return chosen


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part. Raises DataFolderUnusable."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        temporary.replace(path)
    except OSError as exc:
        raise DataFolderUnusable(f"{path} can't be written: {exc.strerror}; check the disk and the folder's owner") from None
