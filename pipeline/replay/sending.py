"""Sends logged requests through the gateway, so many at once and so many in a second, and hands on what came of each.

Every request has an Idempotency-Key made of replay and place: sent again within the gateway's window (15 minutes), after a lost
connection or by a replay that goes on, it is joined or answered from its record, and no provider is called twice. What a worker says is
a result, errors included; what the ingress says before that (503, no connection) is waited for, up to GIVE_UP_S for one request.

Raises ReplayFailed where going on is of no use: a token that may not, an endpoint that isn't there, a gateway that knows no replays.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.cli.api import explain
from pipeline.records import REPLAY_OF_HEADER, REPLAYED_HEADER
from pipeline.replay.comparing import findings, similarity, text_of
from pipeline.replay.folder import ReplayFailed
from pipeline.replay.records import Original, Result

GIVE_UP_S = 180.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
USELESS = (401, 403, 404)


class Sender:
    """Sends one replay's requests to one endpoint. `client` knows the gateway's address and an admin's token."""

    def __init__(self, client: httpx.AsyncClient, replay_id: str, endpoint: str, *, rate: float, concurrency: int) -> None:
        self._client, self._replay_id = client, replay_id
        self._path = f"/serving-endpoints/{quote(endpoint, safe='')}/invocations"
        self._pause_s, self._slots = 1 / rate, asyncio.Semaphore(concurrency)

    async def run(self, originals: Iterator[Original], done: Callable[[Result], None]) -> None:
        """Send them all; `done` is called with each result as it comes. What is under way when one fails is given up."""
        next_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                for original in originals:
                    await self._slots.acquire()
                    await asyncio.sleep(next_s - time.monotonic())
                    # Time lost to full slots is not made up for by a burst.
                    next_s = max(next_s, time.monotonic() - self._pause_s) + self._pause_s
                    group.create_task(self._one(original, done))
        except* ReplayFailed as failures:
            raise failures.exceptions[0] from None

    async def _one(self, original: Original, done: Callable[[Result], None]) -> None:
        try:
            done(await self._result(original))
        finally:
            self._slots.release()

    async def _result(self, original: Original) -> Result:
        headers = {
            "content-type": "application/json",
            "idempotency-key": key_of(self._replay_id, original),
            REPLAY_OF_HEADER: quote(original.request_id, safe=""),
        }
        give_up_s, pause_s = time.monotonic() + GIVE_UP_S, FIRST_PAUSE_S
        while True:
            try:
                answer = await self._client.post(self._path, content=original.request.encode(), headers=headers)
            except httpx.TransportError as exc:
                reason = f"no answer from {self._client.base_url}: {str(exc) or type(exc).__name__}"
            else:
                if REPLAYED_HEADER in answer.headers or answer.status_code in range(400, 500) and answer.status_code not in (*USELESS, 429):
                    return result_of(original, answer)
                if answer.status_code in USELESS:
                    raise ReplayFailed(explain(answer))
                if answer.is_success:
                    raise ReplayFailed("the gateway did not take the request as a replay: it, or its workers, are of an earlier version")
                reason = explain(answer)
                pause_s = max(pause_s, float(answer.headers.get("retry-after", 0)))
            if time.monotonic() + pause_s > give_up_s:
                raise ReplayFailed(f"{reason}; the same command goes on from here")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def key_of(replay_id: str, original: Original) -> str:
    """The Idempotency-Key: the same whenever this request of this replay is sent."""
    text = json.dumps([replay_id, original.place, original.request_id])
    return "replay-" + hashlib.sha256(text.encode()).hexdigest()


def result_of(original: Original, answer: httpx.Response) -> Result:
    """What came of it, by the answer and the header that the gateway adds to a replay's."""
    facts: dict[str, Any] = json.loads(answer.headers.get(REPLAYED_HEADER, "{}"))
    body = _body(answer)
    return Result(
        place=original.place,
        request_id=answer.headers.get("x-request-id", ""),
        replayed_ms=time.time_ns() // 1_000_000,
        status_code=answer.status_code,
        error_code=None if answer.is_success else str(body.get("error_code", "UNKNOWN")),
        served_entity=facts.get("served_entity"),
        execution_time_ms=facts.get("execution_time_ms"),
        input_tokens=facts.get("input_tokens", 0),
        output_tokens=facts.get("output_tokens", 0),
        guardrails=findings(facts.get("guardrails")),
        similarity=similarity(original.answer, text_of(body)) if answer.is_success else None,
    )


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
