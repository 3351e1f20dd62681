"""Paced requests: none waits where there is little to do, and none begins before the pause after a large one is over."""

import asyncio
from types import SimpleNamespace

import pytest

from pipeline.kafka import pacing
from pipeline.kafka.pacing import LONGEST_PAUSE_S, paced, pause_after_s


@pytest.mark.parametrize(("records", "pause_s"), [(1, 0), (2, 0), (3, 0.0005), (6, 0.002), (10_000, LONGEST_PAUSE_S)])
def test_the_pause_grows_with_the_records_and_is_bounded(records, pause_s):
    assert pause_after_s(records) == pytest.approx(pause_s)


@pytest.mark.parametrize(("records", "waits"), [(2, False), (40, True)])
async def test_a_node_is_busy_until_the_pause_is_over(records, waits, monkeypatch):
    async def do(self, node_id):
        return None

    monkeypatch.setattr(pacing, "SendProduceReqHandler", lambda sender, batches: SimpleNamespace(do=lambda node_id: do(None, node_id)))
    sender = SimpleNamespace(_in_flight={1}, _muted_partitions={"p", "other"}, _send_produce_req=None)
    paced(SimpleNamespace(_sender=sender))
    sending = asyncio.ensure_future(sender._send_produce_req(1, {"p": SimpleNamespace(record_count=records)}))
    begun = asyncio.get_running_loop().time()
    await sending
    assert (asyncio.get_running_loop().time() - begun >= 0.9 * LONGEST_PAUSE_S) is waits
    assert (sender._in_flight, sender._muted_partitions) == (set(), {"other"})
