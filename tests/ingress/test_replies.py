"""Who waits for which answer: everybody who joined gets one, nobody is left behind, and strangers' answers do no harm."""

from __future__ import annotations

import orjson
import pytest

from pipeline.errors import AlreadyExists, Unavailable
from pipeline.ingress.replies import Waiting, decode

ANSWER = {"request_id": "r1", "status_code": 200, "body": {}}


async def test_two_who_wait_for_the_same_id_both_get_the_answer_and_only_the_first_sends() -> None:
    waiting = Waiting(10)
    (one, first), (two, second) = waiting.join("r1", b"same"), waiting.join("r1", b"same")
    assert (first, second) == (True, False)
    waiting.resolve(b"r1", ANSWER)
    assert await one is ANSWER
    assert await two is ANSWER
    assert waiting.leave("r1", one) is False
    assert waiting.leave("r1", two) is True
    assert (waiting.count, b"r1" in waiting) == (0, False)


async def test_the_same_id_with_another_body_is_refused_and_the_first_goes_on() -> None:
    waiting = Waiting(10)
    future, _ = waiting.join("r1", b"one")
    with pytest.raises(AlreadyExists):
        waiting.join("r1", b"other")
    waiting.resolve(b"r1", ANSWER)
    assert await future is ANSWER


async def test_late_double_and_unknown_answers_find_nobody() -> None:
    waiting = Waiting(10)
    waiting.resolve(b"unknown", ANSWER)
    future, _ = waiting.join("r1")
    waiting.resolve(b"r1", ANSWER)
    waiting.resolve(b"r1", {**ANSWER, "status_code": 500})
    assert (await future)["status_code"] == 200
    waiting.leave("r1", future)
    waiting.resolve(b"r1", ANSWER)
    assert waiting.count == 0


async def test_leaving_twice_counts_once() -> None:
    waiting = Waiting(10)
    future, _ = waiting.join("r1")
    other, _ = waiting.join("r2")
    waiting.leave("r1", future)
    assert waiting.leave("r1", future) is True
    assert waiting.count == 1
    assert waiting.leave("r2", other) is True


async def test_no_more_than_the_limit_wait_and_room_comes_back() -> None:
    waiting = Waiting(2)
    first, _ = waiting.join("r1")
    waiting.join("r2")
    with pytest.raises(Unavailable) as caught:
        waiting.join("r3")
    assert caught.value.retry_after_s == 1
    waiting.leave("r1", first)
    waiting.join("r3")


async def test_a_failure_reaches_everybody_with_an_exception_of_his_own() -> None:
    waiting = Waiting(10)
    one, _ = waiting.join("r1")
    two, _ = waiting.join("r1")
    waiting.fail("r1", Unavailable("the broker has not confirmed request r1", retry_after_s=2))
    with pytest.raises(Unavailable) as caught:
        await one
    with pytest.raises(Unavailable) as other:
        await two
    assert caught.value is not other.value
    assert caught.value.retry_after_s == 2


async def test_expecting_leaves_whatever_happens() -> None:
    waiting = Waiting(10)
    with pytest.raises(KeyError), waiting.expecting("r1"):
        raise KeyError
    assert waiting.count == 0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"null",
        b'{"status_code": 200}',
        b'{"body": {}}',
        b'{"status_code": "200", "body": {}}',
        b'{"status_code": true, "body": {}}',
        b'{"status_code": 99, "body": {}}',
        b'{"status_code": 1000000, "body": {}}',
        b'{"status_code": 200, "body": []}',
        b'{"request_id": "r1", "sequence": -1, "chunk": {"choices": []}}',
        b'{"request_id": "r1", "sequence": 7, "chunk": {"choices": [1]}}',
        b'{"request_id": "r1", "sequence": 7, "chunk": {}}',
        b'{"request_id": "r1", "sequence": 7, "final": true}',
        b'{"request_id": "r1", "run_id": 5, "sequence": 7, "final": true, "status_code": 200}',
    ],
)
def test_what_is_no_answer_is_passed_by(value: bytes) -> None:
    assert decode(value) is None


def test_an_answer_is_read() -> None:
    assert decode(orjson.dumps(ANSWER)) == ANSWER


async def test_whoever_follows_gets_pieces_and_whole_answers_and_whoever_waits_only_the_whole() -> None:
    waiting = Waiting(10)
    feed, (future, _) = waiting.follow("r1"), waiting.join("r1")
    piece = {"run_id": "a", "sequence": 0, "chunk": {"choices": []}}
    waiting.resolve(b"r1", piece, 40)
    assert not future.done()
    waiting.resolve(b"r1", ANSWER, 40)
    assert [await feed.get(1), await feed.get(1), await future] == [piece, ANSWER, ANSWER]
    assert waiting.leave("r1", future) is False
    assert waiting.leave("r1", feed) is True
    assert waiting.count == 0


async def test_a_feed_tells_its_error_after_what_came_before_it() -> None:
    waiting = Waiting(10)
    feed = waiting.follow("r1")
    waiting.resolve(b"r1", ANSWER, 40)
    waiting.fail("r1", Unavailable("the broker has not confirmed request r1", retry_after_s=2))
    assert await feed.get(1) is ANSWER
    with pytest.raises(Unavailable):
        await feed.get(1)


async def test_a_feed_of_a_client_that_reads_too_slowly_fails_instead_of_growing() -> None:
    feed = Waiting(10).follow("r1")
    for _ in range(9):
        feed.take(ANSWER, 1 << 20)
    for _ in range(8):
        assert await feed.get(1) is ANSWER
    with pytest.raises(Unavailable, match="too slowly"):
        await feed.get(1)


async def test_a_feed_without_anything_says_so_after_the_time() -> None:
    assert await Waiting(10).follow("r1").get(0.01) is None
