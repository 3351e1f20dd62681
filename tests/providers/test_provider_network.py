"""Between worker and provider the network fails: each call is answered in time, and the next one is not harmed by what went before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.providers.client import ProviderClient
from pipeline.providers.result import Failure
from pipeline.settings import Settings
from tests.faults.proxy import Proxy
from tests.providers.at_loopback import Call, Demo, read, until

Asked = Callable[..., dict[str, Any]]


@pytest.fixture
def proxy(demo: Demo) -> Iterator[Proxy]:
    """The way to the demo provider."""
    with Proxy(int(demo.url.rpartition(":")[2])) as running:
        yield running


@pytest.fixture
def base(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}/v1"


async def test_a_reset_in_the_middle_of_a_call_is_the_providers_failure_at_once(call: Call, demo: Demo, proxy: Proxy, base: str) -> None:
    slow = asyncio.ensure_future(call("slow-30", base=base, timeout_s=30, request_id="reset-1"))
    await until(lambda: bool(demo.calls(request_id="reset-1")))
    began_s = time.monotonic()
    proxy.reset()
    result = await slow
    assert time.monotonic() - began_s < 5
    assert (result.failure, result.status_code) == (Failure.PROVIDER, 0)
    assert (await call("demo", base=base)).failure is None


async def test_a_reset_in_the_middle_of_a_stream_is_told_after_what_came(
    client: ProviderClient, asked: Asked, proxy: Proxy, base: str
) -> None:
    items = client.stream(**asked("echo+pieces-2+stall-1", base=base, timeout_s=30))
    first = await anext(items)
    proxy.reset()
    streamed = await read(items)
    assert isinstance(first, dict) and first["choices"]
    assert streamed.result.failure == Failure.PROVIDER
    assert "broke off" in (streamed.result.error or "")


async def test_an_idle_connection_that_was_reset_harms_no_call(call: Call, proxy: Proxy, base: str) -> None:
    assert (await call("demo", base=base)).failure is None
    assert proxy.reset() == 1
    # By then the client's side has been told as well: it is the same loop that waits here.
    await until(lambda: proxy.reset() == 0)
    assert (await call("demo", base=base)).failure is None


async def test_an_idle_connection_that_leads_nowhere_costs_one_call_its_deadline_and_no_other(call: Call, proxy: Proxy, base: str) -> None:
    assert (await call("demo", base=base)).failure is None
    assert proxy.lose(lambda number: True) == 1
    began_s = time.monotonic()
    result = await call("demo", base=base, timeout_s=1.0)
    assert 0.9 <= time.monotonic() - began_s <= 2.0
    assert (result.failure, result.status_code) == (Failure.PROVIDER, 0)
    assert (await call("demo", base=base)).failure is None


async def test_who_may_not_send_any_more_does_not_call(settings: Settings, asked: Asked, demo: Demo) -> None:
    """A worker that was stopped while it connected, and wakes when its request is another's."""
    times: list[int] = []

    def may_send() -> None:
        times.append(len(times))
        raise RuntimeError("not any more")

    client = ProviderClient(settings, may_send)
    await client.start()
    try:
        result = await client.call(**asked("demo", request_id="stopped-1"))
    finally:
        await client.stop()
    assert times == [0]
    assert result.failure == Failure.PROVIDER
    assert demo.calls(request_id="stopped-1") == []
