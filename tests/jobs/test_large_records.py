"""Records whose texts have a mebibyte each fit through the job's gigabyte of heap, hundreds of them in one batch."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from jobs.landing import MAX_TEXT_BYTES
from pipeline.records import InferenceRecord
from pipeline.topics import RECORDS
from tests.jobs.running_job import RunningJob, record

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

TABLE = ("large", "logs", "a")
COUNT = 300


def test_a_batch_of_many_large_texts_lands_and_is_spread_within_the_heap(own_job: RunningJob) -> None:
    # With tables of its own: other tests read all there are.
    job = own_job
    rng = random.Random(1)
    # Hardly shrinks, as base64 of a picture: what is read and written is as large as it is long.
    text = rng.randbytes(MAX_TEXT_BYTES // 2).hex()

    def made() -> Iterator[InferenceRecord]:
        # Small ones first: from their size nothing follows for those that come.
        yield from (record(TABLE, request_id=f"small-{number}") for number in range(COUNT))
        for number in range(COUNT):
            start = rng.randrange(MAX_TEXT_BYTES)
            turned = text[start:] + text[:start]
            yield record(TABLE, request_id=f"large-{number}", request=turned, response=turned[::-1])

    def produce() -> None:
        # One key, one partition: they are written in this order.
        job.produce((RECORDS.name, b"k", one.model_dump_json().encode()) for one in made())

    job.restart(produce)
    job.land()
    landed = job.run._last_batch
    assert landed is not None and landed["rows"] >= 2 * COUNT
    started_s = time.monotonic()
    job.settle(300)
    print(f"landed in {landed['took_ms'] / 1000:.1f} s, spread in {time.monotonic() - started_s:.1f} s")
    rows = job.spark.read.format("delta").load(str(job.warehouse / "large" / "logs" / "a_request_response"))
    counted = ("count(DISTINCT request_id)", "count(*)", "min(length(request))", "min(length(response))")
    found = rows.where("request_id LIKE 'large-%'").selectExpr(*counted).collect()[0]
    assert tuple(found) == (COUNT, COUNT, MAX_TEXT_BYTES, MAX_TEXT_BYTES)
