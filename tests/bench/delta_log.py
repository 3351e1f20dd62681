"""Delta tables as their logs tell of them, read without Spark: what each commit brought and when, and which files there are now.

A row can be queried from the moment on at which the commit that holds it appears in the table's log, and that is the time of the
commit's file: so nothing has to poll the table. Looks at what is new only; takes no notice of checkpoints, so a log that has been
cleaned up (a day, six hours for the landing table) is told of in part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq


@dataclass(slots=True)
class Commit:
    """One commit. `rows`, `files`: what it added that was not there before; `reached`: the landed batch it took its table to, if one."""

    version: int
    at_s: float
    operation: str = ""
    rows: int = 0
    files: list[str] = field(default_factory=list)
    reached: int | None = None


class DeltaLog:
    """The log of the table in `folder`, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: list[Commit] = []
        # The files of the newest version and their bytes.
        self.files: dict[str, int] = {}

    def look(self) -> DeltaLog:
        """Take over what has been committed since the last look."""
        while (file := self.folder / "_delta_log" / f"{len(self.commits):020}.json").exists():
            self.commits.append(self._read(file))
        return self

    @property
    def rows(self) -> int:
        """How many rows have ever been added."""
        return sum(commit.rows for commit in self.commits)

    def ids(self, column: str = "request_id") -> Iterator[tuple[str, float]]:
        """Each row's id and the time at which it could be queried (epoch seconds), from files too that were compacted since."""
        for commit in self.commits:
            for path in commit.files:
                for value in pq.read_table(self.folder / path, columns=[column])[column].to_pylist():
                    yield value, commit.at_s

    def _read(self, file: Path) -> Commit:
        commit = Commit(len(self.commits), os.stat(file).st_mtime)
        for action in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if "commitInfo" in action:
                commit.operation = action["commitInfo"]["operation"]
            elif "txn" in action:
                commit.reached = action["txn"]["version"]
            elif "remove" in action:
                self.files.pop(unquote(action["remove"]["path"]), None)
            elif "add" in action:
                path = unquote(action["add"]["path"])
                self.files[path] = action["add"]["size"]
                if action["add"]["dataChange"]:
                    commit.files.append(path)
                    commit.rows += json.loads(action["add"]["stats"])["numRecords"]
        return commit
