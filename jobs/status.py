"""What `sluice doctor` reads about the table job: one small JSON file, replaced whole each time.

    {"updated_ms", "pid", "landed_seq", "last_batch": {"batch_id", "rows", "took_ms", "at_ms"} | null, "kafka_records_behind": int | null,
     "last_error": str | null,
     "targets": {"catalog.schema.table": {"path", "reached_seq", "lag_batches", "error", "error_since_ms"}}}

`lag_batches` counts landed batches that the table is not known to have taken over; 0 for a healthy one. `last_error` is what ended
the job. Nothing here decides anything.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from jobs.fanout import Fanout


def status_file(data: Path) -> Path:
    """Where the file lies in a data folder."""
    return data / "status" / "tables.json"


def write_status(
    data: Path, fanout: Fanout, last_batch: dict[str, int] | None, records_behind: int | None, last_error: str | None = None
) -> None:
    """Put the present state in the file's place."""
    state: dict[str, Any] = {
        "updated_ms": int(time.time() * 1000),
        "pid": os.getpid(),
        "landed_seq": fanout.high,
        "last_batch": last_batch,
        "kafka_records_behind": records_behind,
        "last_error": last_error,
        "targets": {},
    }
    for name, target in sorted(fanout.targets.items()):
        work = fanout.work.get(name)
        state["targets"][target.label] = {
            "path": str(target.table.path),
            "reached_seq": max(target.progress.known, work.after) if work else fanout.high,
            "lag_batches": fanout.high - max(target.progress.known, work.after) if work and work.span else 0,
            "error": work.error if work else None,
            "error_since_ms": int(work.since_s * 1000) if work and work.error else None,
        }
    file = status_file(data)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")
    temporary.replace(file)
