"""How requests are sent: so many at once, so many in a second, again where the gateway did not answer, and not where it is of no use."""

import asyncio
import json
import time

import httpx
import pytest

from pipeline.records import REPLAYED_HEADER
from pipeline.replay import sending
from pipeline.replay.folder import ReplayFailed
from pipeline.replay.sending import Sender, key_of
from tests.replay.test_folder import an_original

FACTS = {
    "served_entity": "e", "execution_time_ms": 42, "input_tokens": 3, "output_tokens": 5,
    "guardrails": [{"assessment_type": "PII", "direction": "input", "result": "MASKED", "duration_ms": 1.5}],
}  # fmt: skip


def answered(status=200, facts=FACTS, body=None, **headers):
    told = {REPLAYED_HEADER: json.dumps(facts)} if facts else {}
    content = {"choices": [{"message": {"content": "texts"}}]} if body is None else body
    return httpx.Response(status, json=content, headers={**told, "x-request-id": "new", **headers})


def run(answer, count=1, rate=10_000.0, concurrency=8):
    """The results, by place, of `count` requests that `answer` answers."""
    results = {}

    async def send():
        client = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
        async with client:
            sender = Sender(client, "id", "a b", rate=rate, concurrency=concurrency)
            await sender.run(map(an_original, range(count)), lambda result: results.setdefault(result.place, result))

    asyncio.run(send())
    return results


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.001)


def test_a_request_says_what_it_is_a_replay_of_and_its_result_is_what_the_gateway_tells():
    seen = []

    def answer(request):
        seen.append(request)
        return answered()

    [result] = run(answer).values()
    assert (seen[0].url.raw_path, seen[0].headers["x-sluice-replay-of"]) == (b"/serving-endpoints/a%20b/invocations", "r0")
    assert seen[0].headers["idempotency-key"] == key_of("id", an_original(0))
    told = (result.status_code, result.request_id, result.execution_time_ms, result.input_tokens, result.output_tokens, result.error_code)
    assert told == (200, "new", 42, 3, 5, None)
    assert (result.guardrails, round(result.similarity, 3)) == (["input PII masked"], 0.889)


def test_keys_differ_by_replay_and_by_place_and_are_the_same_at_every_try():
    keys = {key_of(replay, an_original(place)) for replay in ("one", "two") for place in range(3)}
    assert len(keys) == 6 and key_of("one", an_original(0)) in keys


@pytest.mark.parametrize("status", [429, 502, 504])
def test_what_a_worker_says_is_a_result_errors_included(status):
    [result] = run(lambda request: answered(status, body={"error_code": "SO", "message": "it is"})).values()
    assert (result.status_code, result.error_code, result.similarity, result.execution_time_ms) == (status, "SO", None, 42)


def test_what_the_ingress_refuses_is_a_result_without_a_time():
    refusal = {"error_code": "INVALID_PARAMETER_VALUE", "message": "messages: is empty"}
    [result] = run(lambda request: answered(400, facts=None, body=refusal)).values()
    assert (result.status_code, result.error_code, result.execution_time_ms) == (400, "INVALID_PARAMETER_VALUE", None)


def test_it_asks_again_with_the_same_key_where_nobody_could_answer():
    keys = []

    def answer(request):
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ConnectError("refused")
        return answered(503, facts=None, body={"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}) if len(keys) == 2 else answered()

    assert run(answer)[0].status_code == 200
    assert len(keys) == 3 and len(set(keys)) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_it_ends_at_once_where_going_on_is_of_no_use(status):
    seen = []

    def answer(request):
        seen.append(request)
        return answered(status, facts=None, body={"error_code": "NO", "message": "you may not"})

    with pytest.raises(ReplayFailed, match="NO: you may not"):
        run(answer, count=100, concurrency=1)
    assert len(seen) <= 2


def test_a_gateway_that_knows_no_replays_is_sent_no_more():
    seen = []

    def answer(request):
        seen.append(request)
        return answered(facts=None)

    with pytest.raises(ReplayFailed, match="earlier version"):
        run(answer, count=100, concurrency=1)
    assert len(seen) <= 2


def test_it_gives_up_on_a_gateway_that_stays_away(monkeypatch):
    monkeypatch.setattr(sending, "GIVE_UP_S", 0.01)

    def answer(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(ReplayFailed, match=r"no answer from http://gateway.*refused; the same command goes on from here"):
        run(answer)


def test_so_many_at_once_and_so_many_in_a_second():
    under_way, most = 0, 0

    async def answer(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return answered()

    assert len(run(answer, count=30, concurrency=3)) == 30
    assert most == 3
    started = time.monotonic()
    run(answer, count=11, rate=50, concurrency=8)
    assert time.monotonic() - started >= 0.2
