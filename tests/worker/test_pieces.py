"""Pieces of a stream: what is joined, what is held back, and how they are numbered. The topic is a list here."""

import asyncio
import json

import pytest

from pipeline.core.outcome import Outcome
from pipeline.envelope import Envelope
from pipeline.records import Attempt
from pipeline.worker.out import encoded
from pipeline.worker.ownership import Ownership
from pipeline.worker.pieces import Pieces

ENVELOPE = Envelope("r-1", "e", "alice@example.com", appended_ms=1_000, rate_limit={"limit": 3, "remaining": 2, "reset_s": 1})


class Topic:
    """Keeps what is sent, with when."""

    def __init__(self):
        self.sent = []

    def now_ms(self):
        return 1_250

    async def answer(self, envelope, piece):
        self.sent.append((asyncio.get_running_loop().time(), json.loads(encoded(piece))))

    @property
    def said(self):
        return ["".join(c["delta"].get("content") or "" for c in piece["chunk"]["choices"]) for _, piece in self.sent]


def chunk(text=None, **more):
    delta = {"content": text} if text is not None else {}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta | more}]}


@pytest.fixture
def topic():
    return Topic()


@pytest.fixture
def pieces(topic):
    ownership = Ownership()
    ownership.assigned(frozenset({3}))
    outcome = Outcome(served_entity="first", served_model="m")
    outcome.attempts.append(Attempt(served_entity_name="first", status_code=0, execution_time_ms=0))
    made = Pieces(topic, ownership, 3, ENVELOPE, "run-1", outcome)
    made.of = outcome, ownership
    return made


async def test_the_first_that_says_something_goes_at_once_with_what_came_before_it(pieces, topic):
    await pieces.put(chunk("", role="assistant"))
    assert not pieces.begun
    await pieces.put(chunk("Hel"))
    assert pieces.begun
    [(_, piece)] = topic.sent
    assert (piece["request_id"], piece["run_id"], piece["sequence"]) == ("r-1", "run-1", 0)
    assert piece["head"] == {"served_entity": "first", "served_model": "m", "attempts": 1, "rate_limit": ENVELOPE.rate_limit}
    assert piece["chunk"]["choices"][0]["delta"] == {"role": "assistant", "content": "Hel"}
    assert pieces.of[0].time_to_first_token_ms == 250


async def test_what_follows_soon_is_joined_and_goes_by_itself(pieces, topic):
    await pieces.put(chunk("a"))
    for text in "bcd":
        await pieces.put(chunk(text))
    assert topic.said == ["a"]
    async with asyncio.timeout(5):
        while len(topic.sent) < 2:
            await asyncio.sleep(0)
    assert topic.said == ["a", "bcd"]
    assert [piece["sequence"] for _, piece in topic.sent] == [0, 1]
    assert topic.sent[1][1].get("head") is None
    assert topic.sent[1][0] - topic.sent[0][0] >= 0.02


async def test_the_rest_goes_out_at_the_end(pieces, topic):
    await pieces.put(chunk("a"))
    await pieces.put(chunk("b"))
    await pieces.close()
    assert topic.said == ["a", "b"]


async def test_a_chunk_with_more_in_it_than_can_be_joined_goes_as_it_is(pieces, topic):
    await pieces.put(chunk("a"))
    for one in (chunk("b"), chunk("c", annotations=[1]), chunk("d"), chunk("e")):
        await pieces.put(one)
    await pieces.close()
    assert topic.said == ["a", "b", "c", "de"]


async def test_what_has_not_gone_out_can_be_forgotten(pieces, topic):
    await pieces.put(chunk("", role="assistant"))
    pieces.forget()
    await pieces.put(chunk("", role="other"))
    await pieces.put(chunk("x"))
    assert topic.sent[0][1]["chunk"]["choices"][0]["delta"] == {"role": "other", "content": "x"}


async def test_nothing_goes_out_for_a_partition_that_was_lost(pieces, topic):
    await pieces.put(chunk("a"))
    pieces.of[1].assigned(frozenset({4}))
    await pieces.put(chunk("b"))
    await pieces.close()
    assert topic.said == ["a"]


async def test_what_waits_for_the_end_of_a_rebalance_goes_after_it(pieces, topic):
    pieces.of[1].revoked()
    sending = asyncio.create_task(pieces.put(chunk("a")))
    await asyncio.sleep(0)
    assert not topic.sent
    pieces.of[1].assigned(frozenset({3}))
    await sending
    assert topic.said == ["a"]


async def test_a_failure_of_a_later_sending_is_not_swallowed(pieces, topic):
    await pieces.put(chunk("a"))

    async def fail(envelope, piece):
        raise ConnectionError("gone")

    topic.answer = fail
    await pieces.put(chunk("b"))
    with pytest.raises(ConnectionError):
        await pieces.close()
