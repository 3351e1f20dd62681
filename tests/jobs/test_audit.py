"""`sluice audit` finds what is missing, double, unexplained, dead or gone, and nothing where all is well."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from delta.tables import DeltaTable
from pyspark.sql import functions as F

from jobs.audit import Audit, audit
from jobs.audit_tables import TableAudit, audit_hours
from pipeline.kafka.connection import client_options
from pipeline.records import Assessment
from pipeline.topics import DAY_MS, RECORDS
from tests.jobs.running_job import NOW_MS, RunningJob, endpoint, record

pytestmark = pytest.mark.timeout(300)

LOGS = ("audited", "logs", "one")
REQUESTS, ASSESSMENTS = "audited.logs.one_request_response", "audited.logs.one_assessment"
USAGE, HOURLY, LETTERS = "system.serving.endpoint_usage", "system.serving.usage_hourly", "system.serving.dead_letters"
BLOCKED = Assessment(assessment_type="KEYWORD", assessment_result="BLOCKED", assessment_details="{}", direction="input")
SENT = 40


def audited(job: RunningJob) -> Audit:
    # The job's own session, which compiles nothing: with so few rows compiling would be most of it.
    return audit(job.settings, job.spark)


def of(found: Audit, name: str) -> TableAudit:
    return next(table for table in found.tables if table.name == name)


def table(job: RunningJob, name: str) -> DeltaTable:
    return DeltaTable.forPath(job.spark, str(job.warehouse.joinpath(*name.split("."))))


@pytest.fixture(scope="module")
def filled(own_job: RunningJob) -> RunningJob:
    """Forty requests, one of them sent twice, ten of them with a finding; one id comes again after a day, and one is replayed."""
    made = [record(LOGS, request_id=f"r{n}", assessments=[BLOCKED] if n < 10 else [], usage_tracking=True) for n in range(SENT)]
    again = record(LOGS, request_id="r0", timestamp_ms=NOW_MS - 2 * DAY_MS, usage_tracking=True)
    own_job.produce([endpoint("audited", LOGS), *made, made[7], again, record(request_id="new", replay_of="r1")])
    own_job.settle()
    return own_job


def test_where_all_is_well_it_is_complete_and_says_how_many(filled: RunningJob) -> None:
    found = audited(filled)
    assert found.complete, found
    assert (found.read, found.copies, found.dead_letters, found.behind) == (SENT + 3, 1, 0, 0)
    requests, findings = of(found, REQUESTS), of(found, ASSESSMENTS)
    assert (requests.wanted, requests.rows) == (SENT + 1, SENT + 1)
    assert (findings.wanted, findings.rows) == (10, 10)
    assert of(found, USAGE).rows == SENT + 1


def test_what_has_landed_and_is_not_spread_yet_waits(filled: RunningJob) -> None:
    filled.produce([record(LOGS, request_id="late", usage_tracking=True)])
    filled.land()
    found = audited(filled)
    assert found.complete, found
    assert (of(found, REQUESTS).waiting, of(found, USAGE).waiting) == (1, 1)
    filled.settle()
    assert of(audited(filled), REQUESTS).waiting == 0


@pytest.fixture
def spoiled(filled: RunningJob) -> Iterator[RunningJob]:
    """Rows deleted, doubled and made up by hand, and an hour that is wrong; all as it was afterwards."""
    versions = {name: table(filled, name).history(1).collect()[0].version for name in (REQUESTS, ASSESSMENTS, USAGE, HOURLY)}
    for name in (REQUESTS, ASSESSMENTS, USAGE):
        path = str(filled.warehouse.joinpath(*name.split(".")))
        id_column = "databricks_request_id" if name == USAGE else "request_id"
        table(filled, name).delete(F.col(id_column) == "r5")
        rows = filled.spark.read.format("delta").load(path).where(F.col(id_column) == "r6")
        rows.write.format("delta").mode("append").save(path)
        if name == REQUESTS:
            rows.limit(1).withColumn("request_id", F.lit("made-up")).write.format("delta").mode("append").save(path)
    yield filled
    for name, version in versions.items():
        table(filled, name).restoreToVersion(version)
    assert audited(filled).complete


def test_what_was_deleted_doubled_or_made_up_by_hand_is_found(spoiled: RunningJob) -> None:
    found = audited(spoiled)
    assert not found.complete
    for name in (REQUESTS, ASSESSMENTS, USAGE):
        one = of(found, name)
        assert (one.missing, one.examples["missing"]) == (1, ["r5"])
        assert (one.double, one.examples["double"]) == (1, ["r6"])
    assert (of(found, REQUESTS).unexplained, of(found, REQUESTS).examples["unexplained"]) == (1, ["made-up"])
    assert of(found, USAGE).unexplained == 0
    # One row less and one more of the same figures: the hour is the same.
    assert found.wrong_hours == 0
    table(spoiled, HOURLY).update("requests > 30", {"errors": F.col("errors") + 1})
    assert audit_hours(spoiled.warehouse, spoiled.spark) == 1


def test_a_dead_letter_and_a_gap_are_found(filled: RunningJob) -> None:
    """Last, since neither can be taken back."""
    filled.produce([(RECORDS.name, b"r90", b"no record")])
    filled.settle()
    found = audited(filled)
    assert (found.dead_letters, of(found, LETTERS).wanted, of(found, LETTERS).missing) == (1, 1, 0)
    assert not found.complete
    filled.crash()
    # What nobody has read is gone from Kafka, and who starts anew goes on behind it.
    (lost,) = filled.produce([record(LOGS, request_id="lost")])
    _delete_up_to(filled, lost.partition, lost.offset + 1)
    shutil.rmtree(filled.settings.data / "checkpoints")
    filled.produce([(RECORDS.name, b"lost", record(LOGS, request_id="after").model_dump_json().encode())])
    filled.start()
    filled.settle()
    found = audited(filled)
    assert found.gaps == {lost.partition: 1}
    assert of(found, REQUESTS).missing == 0


def _delete_up_to(job: RunningJob, partition: int, offset: int) -> None:
    async def delete() -> Any:
        admin = AIOKafkaAdminClient(**client_options(job.settings))
        await admin.start()
        try:
            return await admin.delete_records({TopicPartition(RECORDS.name, partition): RecordsToDelete(offset)})
        finally:
            await admin.close()

    asyncio.run(delete())
