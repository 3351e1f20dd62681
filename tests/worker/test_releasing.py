"""Sources are fetched again after a rebalance with the flow, its last step, and not before. Fails when Faust changes beneath us."""

from types import SimpleNamespace

import pytest
from faust.types import TP

from pipeline.worker.releasing import ReleasesSources

SOURCE, CHANGELOG = TP("gateway.requests", 3), TP("limits-changelog", 3)


@pytest.fixture
def consumer():
    """As after an assignment, with the flow on for the changelogs."""
    made = ReleasesSources.__new__(ReleasesSources)
    made._released, made._waiting = set(), set()
    made._is_changelog_tp = lambda tp: tp.topic == CHANGELOG.topic
    made.app = SimpleNamespace(in_recovery=False)
    made.can_resume_flow = made.suspend_flow = SimpleNamespace(set=lambda: None, clear=lambda: None)
    made._active_partitions, made._paused_partitions, made._buffered_partitions = set(), set(), set()
    made._set_active_tps({SOURCE, CHANGELOG})
    return made


def test_an_assignment_makes_changelogs_active_and_no_source(consumer):
    assert consumer._active_partitions == {CHANGELOG}


def test_a_source_that_is_resumed_waits_for_the_flow(consumer):
    consumer.pause_partitions({SOURCE, CHANGELOG})
    consumer.resume_partitions({SOURCE, CHANGELOG})
    assert consumer._active_partitions == {CHANGELOG}
    consumer.resume_flow()
    assert consumer._active_partitions == {SOURCE, CHANGELOG}


def test_a_queue_that_empties_in_a_rebalance_makes_nothing_active(consumer):
    consumer._buffered_partitions.add(SOURCE)
    consumer.on_buffer_drop(SOURCE)
    assert consumer._active_partitions == {CHANGELOG}
    consumer.resume_partitions({SOURCE})
    consumer.resume_flow()
    consumer.on_buffer_full(SOURCE)
    assert consumer._active_partitions == {CHANGELOG}
    consumer.on_buffer_drop(SOURCE)
    assert consumer._active_partitions == {SOURCE, CHANGELOG}


async def test_a_rebalance_takes_back_what_waits_and_what_is_active(consumer, monkeypatch):
    async def nothing(*_):
        return None

    monkeypatch.setattr(ReleasesSources.__mro__[1], "on_partitions_revoked", nothing)
    consumer.resume_partitions({SOURCE})
    consumer.resume_flow()
    consumer.resume_partitions({TP(SOURCE.topic, 4)})
    await consumer.on_partitions_revoked({SOURCE})
    consumer._set_active_tps({SOURCE, CHANGELOG})
    consumer.resume_flow()
    assert consumer._active_partitions == {CHANGELOG}


async def test_what_becomes_paused_while_records_are_awaited_is_not_fetched(consumer):
    """aiokafka takes an empty set of partitions for all of them, and what it returns is taken for read."""
    asked = []

    async def getmany(partitions, timeout):
        consumer.pause_partitions({CHANGELOG})
        asked.extend(tp for tp in (SOURCE, CHANGELOG) if not partitions or tp in partitions)
        return {}

    consumer._thread = SimpleNamespace(getmany=getmany)
    await consumer._getmany(consumer._get_active_partitions(), 1.0)
    assert asked == []
