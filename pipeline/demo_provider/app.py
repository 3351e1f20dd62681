"""The demo provider over HTTP: a raw ASGI application, since it is the benchmark's upstream and must cost little.

    POST   /v1/chat/completions, /v1/completions, /v1/embeddings    OpenAI's, `stream: true` for the first two
    POST   /v1/messages                                              Anthropic's, `stream: true` too
    GET    /v1/models
    POST   /demo/behaviour {"model", "behaviour", "times"}           the next so many calls of a model behave like this
    GET    /demo/calls[?request_id=...][&model=...]                  the ledger
    DELETE /demo/calls

It decides nothing that behaviours.py, answers.py and streams.py don't; how an answer gets to the caller is exchange.py's.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any
from urllib.parse import parse_qs

import orjson

from pipeline.demo_provider import answers, streams
from pipeline.demo_provider.behaviours import DEFAULT, Behaviour, behaviour_of
from pipeline.demo_provider.exchange import NEVER_S, CallerGone, Exchange, Receive, Scope, Send
from pipeline.demo_provider.ledger import Ledger

MAX_TIMES = 1_000_000
_MODEL_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages"})


class DemoProvider:
    """The ASGI application; one per process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next: defaultdict[str, deque[Behaviour]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        exchange = Exchange(scope, receive, send)
        data = await exchange.read()
        if method == "POST" and path in _MODEL_PATHS:
            await self._model_call(exchange, path, data)
        elif path == "/v1/models" and method == "GET":
            await exchange.answer(200, orjson.dumps({"object": "list", "data": [{"id": "demo", "object": "model", "owned_by": "demo"}]}))
        elif path == "/demo/calls" and method in ("GET", "DELETE"):
            await self._calls(exchange, method)
        elif path == "/demo/behaviour" and method == "POST":
            await self._set_behaviour(exchange, data)
        else:
            await exchange.answer(404, answers.error(404, f"nothing is at {method} {path}", False))

    async def _calls(self, exchange: Exchange, method: str) -> None:
        if method == "DELETE":
            self._ledger.clear()
        query = {k: v[0] for k, v in parse_qs(exchange.scope["query_string"].decode()).items()}
        calls = self._ledger.calls(query.get("request_id"), query.get("model"))
        await exchange.answer(200, orjson.dumps({"calls": calls}))

    async def _set_behaviour(self, exchange: Exchange, data: bytes) -> None:
        try:
            wanted = orjson.loads(data)
            model, word, times = wanted["model"], wanted["behaviour"], wanted.get("times", 1)
            behaviour = behaviour_of(word)
            if not (isinstance(model, str) and isinstance(times, int) and 0 <= times <= MAX_TIMES):
                raise ValueError("times must be a whole number up to 1,000,000")
        except (ValueError, TypeError, KeyError, AttributeError):
            await exchange.answer(400, answers.error(400, 'send {"model": "...", "behaviour": "...", "times": 1}', False))
            return
        self._next[model] = deque([behaviour] * times)
        await exchange.answer(200, b"{}")

    def _behaviour(self, model: str) -> Behaviour:
        planned = self._next.get(model)
        return planned.popleft() if planned else behaviour_of(model)

    async def _model_call(self, exchange: Exchange, path: str, data: bytes) -> None:
        headers = dict(exchange.scope["headers"])
        try:
            body = orjson.loads(data)
        except ValueError:
            body = None
        model = body.get("model") if isinstance(body, dict) else None
        model = model if isinstance(model, str) else ""
        authorized = b"authorization" in headers or b"x-api-key" in headers
        request_id = headers.get(b"x-client-request-id", b"").decode("latin-1")
        entry = self._ledger.open(path, model, request_id, authorized, answers.digest(data.decode(errors="replace")))
        state = "cut off"
        try:
            if isinstance(body, dict):
                await self._perform(exchange, path, body, self._behaviour(model))
            else:
                await exchange.answer(400, answers.error(400, "the body must be a JSON object", path == "/v1/messages"))
            state = "finished"
        except CallerGone:
            pass
        finally:
            self._ledger.close(entry, state, exchange.status)

    async def _perform(self, exchange: Exchange, path: str, body: dict[str, Any], behaviour: Behaviour) -> None:
        anthropic = path == "/v1/messages"
        if behaviour.slow_s:
            await exchange.pause(behaviour.slow_s)
        if behaviour.damage in ("close", "hang"):
            if behaviour.damage == "hang":
                await exchange.pause(NEVER_S)
            exchange.cut()
            return
        if behaviour.damage == "redirect":
            await exchange.answer(302, b"", extra=[(b"location", b"/v1/models")])
            return
        if behaviour.html:
            await exchange.answer(behaviour.status, b"<html><body>Bad gateway</body></html>", b"text/html", drip_s=behaviour.drip_s)
            return
        if behaviour.status != 200:
            text = f"the demo provider was told to answer {behaviour.status}"
            extra = [(b"retry-after", b"1")] if behaviour.status in (429, 503) else []
            await exchange.answer(behaviour.status, answers.error(behaviour.status, text, anthropic), extra=extra, drip_s=behaviour.drip_s)
            return
        try:
            if path == "/v1/embeddings":
                answer = answers.embeddings(body)
            else:
                reply = answers.reply(body, behaviour)
                if body.get("stream") is True and not behaviour.whole:
                    events = streams.events(path, reply, body, behaviour)
                    await exchange.stream(events, behaviour.drip_s, streams.end(behaviour))
                    return
                answer = (
                    answers.message(reply)
                    if anthropic
                    else answers.chat(reply)
                    if path == "/v1/chat/completions"
                    else answers.completion(reply)
                )
        except answers.BadRequest as exc:
            await exchange.answer(400, answers.error(400, str(exc), anthropic))
            return
        if behaviour is DEFAULT:
            await exchange.answer(200, orjson.dumps(answer))
            return
        extra = [(b"content-encoding", b"gzip")] if behaviour.damage == "bomb" else []
        half = behaviour.damage == "half"
        await exchange.answer(200, answers.spoil(answer, behaviour), extra=extra, drip_s=behaviour.drip_s, half=half)
