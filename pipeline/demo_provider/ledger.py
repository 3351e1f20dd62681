"""The calls that the demo provider got: in memory up to a bound, and in a file where one is given, a JSON line per finished call.

Holds no prompt and no key. A call's `state` is `open` while it is being answered, then `finished`, or `cut off` where the caller
went away first; `ended_ms` says when (0: not yet). Losing old entries beyond the bound is by design; the file keeps all.
"""

from __future__ import annotations

import time
from collections import deque
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import orjson

MAX_CALLS = 50_000


class Ledger:
    """Calls in the order in which they came."""

    def __init__(self, path: Path | None = None) -> None:
        self._calls: deque[dict[str, Any]] = deque(maxlen=MAX_CALLS)
        self._file: TextIOWrapper | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Line by line, so that nothing is lost when the process is killed.
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def open(self, path: str, model: str, request_id: str, authorized: bool, digest: str) -> dict[str, Any]:
        """A new entry for a call that has just come; give it to `close` when it is over."""
        entry = {"time_ms": time.time_ns() // 1_000_000, "path": path, "model": model, "request_id": request_id,
                 "authorized": authorized, "digest": digest, "state": "open", "status": 0, "ended_ms": 0}  # fmt: skip
        self._calls.append(entry)
        return entry

    def close(self, entry: dict[str, Any], state: str, status: int) -> None:
        """Note how the call ended."""
        entry["state"] = state
        entry["status"] = status
        entry["ended_ms"] = time.time_ns() // 1_000_000
        if self._file is not None:
            self._file.write(orjson.dumps(entry).decode() + "\n")

    def calls(self, request_id: str | None = None, model: str | None = None) -> list[dict[str, Any]]:
        """The entries, those of one request id or one model only where given."""
        return [c for c in self._calls if request_id in (None, c["request_id"]) and model in (None, c["model"])]

    def clear(self) -> None:
        """Forget all in memory; the file stays."""
        self._calls.clear()
