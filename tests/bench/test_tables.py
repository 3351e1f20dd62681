"""What the measurements of the table job read and put in: a table's log is understood, and made-up records are records."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import InferenceRecord
from tests.bench.delta_log import DeltaLog
from tests.bench.made_records import COPY_EVERY, Records
from tests.bench.tables import TABLE, dashboard_query


def commit(folder: Path, version: int, at_s: float, *actions: dict[str, object]) -> None:
    file = folder / "_delta_log" / f"{version:020}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, actions)))
    os.utime(file, (at_s, at_s))


def added(folder: Path, name: str, ids: list[str], data_change: bool = True) -> dict[str, object]:
    pq.write_table(pa.table({"request_id": ids}), folder / name)
    return {"add": {"path": name.replace(" ", "%20"), "size": 5, "dataChange": data_change, "stats": json.dumps({"numRecords": len(ids)})}}


def test_a_row_counts_from_its_own_commit_on_and_not_from_a_compaction(tmp_path: Path) -> None:
    log = DeltaLog(tmp_path)
    assert log.look().rows == 0
    commit(tmp_path, 0, 10.0, {"commitInfo": {"operation": "CREATE TABLE"}})
    commit(tmp_path, 1, 11.0, {"txn": {"appId": "landing-1", "version": 7}}, added(tmp_path, "a b", ["1", "2"]))
    assert (log.look().rows, log.commits[1].reached) == (2, 7)
    commit(tmp_path, 2, 12.0, added(tmp_path, "c", ["3"]))
    commit(tmp_path, 3, 13.0, {"remove": {"path": "a%20b"}}, {"remove": {"path": "c"}}, added(tmp_path, "d", ["1", "2", "3"], False))
    assert log.look().rows == 3
    assert list(log.files) == ["d"]
    assert sorted(log.ids()) == [("1", 11.0), ("2", 11.0), ("3", 12.0)]


def test_made_records_are_records_and_their_copies_are_not_counted() -> None:
    records, seen = Records(), set[str]()
    for number in range(2 * COPY_EVERY):
        key, value = records.next(1_790_000_000_000 + number)
        record = InferenceRecord.model_validate_json(value)
        assert record.request_id == key.decode()
        assert 0 <= record.timestamp_ms - 1_790_000_000_000 <= number
        seen.add(record.request_id)
    assert (sum(records.unique.values()), records.made) == (len(seen), 2 * COPY_EVERY) == (2 * COPY_EVERY - 2, 2 * COPY_EVERY)


def test_the_dashboard_query_is_the_specifications() -> None:
    assert dashboard_query().count(TABLE) == 1
    assert dashboard_query().startswith("WITH hourly_stats") and dashboard_query().endswith("ORDER BY hour DESC")
