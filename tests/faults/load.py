"""Clients under faults: each request is sent under an Idempotency-Key, and again under the same until it has a final answer.

Every request's text is its own, and the model echoes it, so that an answer which belongs to another shows. A broken connection, 503, and a
stream that ends with an error event or without its end are asked for again; every other status is final. Bounded in number and time: what
has no final answer after `GIVE_UP_S` is written down as such.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from pipeline.ingress.inference import id_of_key

GIVE_UP_S = 240.0
CONNECT_S, ANSWER_S = 5.0, 90.0
LONGEST_PAUSE_S = 2.0
AT_MOST = 40_000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: its endpoint, how often it comes, whether it streams."""

    endpoint: str
    weight: int
    stream: bool = False


@dataclass(slots=True)
class Sent:
    """One request and what came of it. `status` 0: no final answer. `unanswered`: a try had none within ANSWER_S, from an ingress that
    lived on. `refused_ids`: tries that a limit refused."""

    number: int
    endpoint: str
    user: str
    request_id: str
    text: str
    status: int = 0
    answer: str = ""
    answered_id: str = ""
    tries: int = 0
    took_s: float = 0.0
    unanswered: bool = False
    refused_ids: list[str] = field(default_factory=list)


class Load:
    """`count` requests of `kinds` by `users` (name -> token) with `clients` at once; `done` says how many have their final answer.

    While `goes_on`, there are more of them, AT_MOST in all.
    At most `per_s` of them begin in a second; what could not begin in its time, since all clients were waiting, is not made up for.
    `name` keeps keys and texts apart from those of other loads on the same stack.
    """

    def __init__(
        self,
        host: Callable[[], str],
        users: dict[str, str],
        kinds: list[Kind],
        count: int,
        clients: int,
        seed: int,
        name: str,
        per_s: float = math.inf,
        goes_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._host, self._users, self._kinds, self._clients, self._name = host, users, kinds, clients, name
        self._gap_s, self._next_s = 1 / per_s, 0.0
        self._begun = 0
        self.sent: list[Sent] = []
        self.done = 0
        self._plan = random.Random(seed)
        self._count, self._goes_on = count, goes_on

    async def run(self) -> None:
        """Send all of it."""
        limits = httpx.Limits(max_connections=self._clients, max_keepalive_connections=self._clients)
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        # httpx's own pool looks at all its connections for each request: a hundred clients cost more than the gateway that they ask.
        transport = AiohttpTransport(limits=limits, trust_env=False)
        async with httpx.AsyncClient(base_url=self._host(), transport=transport, timeout=timeout, trust_env=False) as http:
            await asyncio.gather(*(self._client(http) for _ in range(self._clients)))

    async def _client(self, http: httpx.AsyncClient) -> None:
        while self._begun < self._count or (self._begun < AT_MOST and self._goes_on()):
            self._begun += 1
            await self._turn()
            number = len(self.sent)
            kind = self._plan.choices(self._kinds, [k.weight for k in self._kinds])[0]
            user = self._plan.choice(list(self._users))
            key = f"{self._name}-{number}"
            text = f"request {number} of {self._name}: {self._plan.getrandbits(64):016x}"
            sent = Sent(number, kind.endpoint, user, id_of_key(user, kind.endpoint, key.encode()), text)
            self.sent.append(sent)
            await self._until_final(http, kind, sent, {"authorization": f"Bearer {self._users[user]}", "idempotency-key": key})
            self.done += 1

    async def _turn(self) -> None:
        now_s = time.monotonic()
        begin_s = max(self._next_s, now_s)
        self._next_s = begin_s + self._gap_s
        if begin_s > now_s:
            await asyncio.sleep(begin_s - now_s)

    async def _until_final(self, http: httpx.AsyncClient, kind: Kind, sent: Sent, headers: dict[str, str]) -> None:
        began_s = time.monotonic()
        pause_s = 0.1
        path = f"/serving-endpoints/{kind.endpoint}/invocations"
        body: dict[str, Any] = {"messages": [{"role": "user", "content": sent.text}]} | ({"stream": True} if kind.stream else {})
        while time.monotonic() - began_s < GIVE_UP_S:
            sent.tries += 1
            try:
                final = await (_streamed if kind.stream else _whole)(http, path, body, headers, sent)
            except httpx.ReadTimeout:
                final, sent.unanswered = False, True
            except (httpx.HTTPError, aiohttp.ClientError):
                final = False
            if final:
                sent.took_s = time.monotonic() - began_s
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        sent.status = 0


async def _whole(http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str], sent: Sent) -> bool:
    answer = await http.post(path, json=body, headers=headers)
    return _is_final(answer, sent, _said(answer) if answer.status_code == 200 else "")


async def _streamed(http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str], sent: Sent) -> bool:
    async with http.stream("POST", path, json=body, headers=headers) as answer:
        if answer.status_code != 200 or not answer.headers["content-type"].startswith("text/event-stream"):
            await answer.aread()
            return _is_final(answer, sent, "")
        text = ""
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                return _is_final(answer, sent, text)
            if line.startswith("data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    return False
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return False


def _said(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def _is_final(answer: httpx.Response, sent: Sent, text: str) -> bool:
    if answer.status_code == 503:
        return False
    sent.status, sent.answer, sent.answered_id = answer.status_code, text, answer.headers["x-request-id"]
    if answer.status_code == 429:
        sent.refused_ids.append(sent.answered_id)
    return True
