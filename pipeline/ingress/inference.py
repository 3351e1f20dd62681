"""A request to a model: checked, put on gateway.requests, and answered when its answer comes back.

    body ──> strict JSON ──> endpoint and task ──> RequestRecord + Envelope ──> gateway.requests
    client <── headers and body in the client's form <── answer record, or 504 after the deadline, or 503 where the broker fails
    client <── events of a stream (streaming.py)     <── pieces and their end

Limits, guardrails and models are the workers'; this module decides none of that. It waits a little longer than the deadline, so
that the worker's own 504, which has a row, comes first. A client that goes away is told to the workers.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid

import orjson
import uuid_utils
from starlette.types import Receive, Scope, Send

from pipeline import json_text, messages_api
from pipeline.core import request_body
from pipeline.endpoints import Endpoint, Token
from pipeline.errors import DeadlineExceeded, InvalidParameter, NotFound
from pipeline.ingress import answers, replays, sse, streaming
from pipeline.ingress.http_body import ClientGone, Headers, read_json_body
from pipeline.ingress.replies import Answer
from pipeline.ingress.sending import GRACE_S, Gateway, Request, send_request, tell_cancelled

MAX_IDEMPOTENCY_KEY_CHARS = 256
# Fixed for ever: all ingresses must make the same id of the same key.
IDEMPOTENCY_NAMESPACE = uuid.UUID("5ba1ce00-6b65-5f73-8e3c-1d7e1b0a9c44")


class Query:
    """One kind of query path, as an ASGI application.

    `task` None: `invocations`, where the path names the endpoint and the endpoint knows its task; otherwise the path fixes the
    task and the body's `model` names the endpoint. `anthropic`: bodies and answers are of the Messages API.
    """

    def __init__(self, gateway: Gateway, task: str | None = None, anthropic: bool = False) -> None:
        self._gateway, self._task, self._anthropic = gateway, task, anthropic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        arrived = time.monotonic()
        headers: Headers = scope["sluice.headers"]
        caller: Token = scope["sluice.caller"]
        replay_of = replays.replay_of(headers, caller)
        raw = await read_json_body(headers, receive, gateway.settings.max_body_bytes)
        request = self._checked(raw, scope["path_params"].get("name"), headers, caller, replay_of)
        scope["sluice.request_id"] = request.request_id
        gateway.health.require_workers()
        gateway.health.require_in_time(request.endpoint.name)
        try:
            if request.stream:
                dialect = self._dialect(request, scope["sluice.form"])
                status_code, answer = await streaming.stream(gateway, request, caller, dialect, receive, send)
                if answer is None:
                    gateway.metrics.answered(request.endpoint.name, status_code, time.monotonic() - arrived)
                    return
            else:
                answer = await exchange(gateway, request, caller, receive)
        except ClientGone:
            gateway.metrics.abandoned.inc()
            return
        status_code = answer["status_code"]
        gateway.metrics.answered(request.endpoint.name, status_code, time.monotonic() - arrived)
        body = self._body(answer, request.endpoint.name, scope["sluice.form"])
        # A refused repeat has an id of its own.
        request_id = str(answer.get("request_id") or request.request_id)
        await answers.respond(send, status_code, body, request_id, [*answers.answer_headers(answer), *replays.facts(answer)])

    def _checked(self, raw: bytes, name: str | None, headers: Headers, caller: Token, replay_of: str) -> Request:
        body = json_text.parse_object(raw)
        request_body.refuse_what_is_not_honoured(body)
        if self._anthropic:
            body = messages_api.to_chat(body)
        # In a query by name it says nothing; the served entity has a model of its own.
        model = body.pop("model", None)
        if self._task is not None:
            if not isinstance(model, str) or not model:
                raise InvalidParameter("model: must name the endpoint that is to answer; GET models lists them")
            name = model
        endpoint = self._endpoint(str(name))
        usage_context, client_request_id = request_body.take_context(body)
        task = endpoint.config.task
        if self._task not in (None, task):
            raise InvalidParameter(
                f"endpoint '{endpoint.name}' serves task '{task}', this path is for '{self._task}'; use the path of its task"
            )
        request_body.check(body, task)
        request_id, digest = str(uuid_utils.uuid7()), b""
        key = headers.get(b"idempotency-key")
        if key is not None:
            request_id = id_of_key(caller.user, endpoint.name, key)
            digest = hashlib.sha256(json_text.canonical(body)).digest()
        stream = body.get("stream") is True
        if stream and replay_of:
            raise InvalidParameter("stream: a replayed request is answered whole; leave stream out")
        options = body.get("stream_options") or {}
        return Request(
            request_id,
            endpoint,
            orjson.dumps(body),
            digest,
            usage_context,
            client_request_id,
            stream=stream,
            replay_of=replay_of,
            include_usage=options.get("include_usage") is True,
        )

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self._gateway.endpoints.get(name)
        if endpoint is None:
            shown = name if len(name) <= 100 else name[:100] + "..."
            raise NotFound(f"endpoint '{shown}' does not exist; GET /api/2.0/serving-endpoints lists those that do")
        return endpoint

    def _dialect(self, request: Request, form: answers.Form) -> sse.Dialect:
        return sse.AnthropicEvents(request.endpoint.name) if self._anthropic else sse.OpenAIEvents(form, request.include_usage)

    def _body(self, answer: Answer, endpoint: str, form: answers.Form) -> bytes:
        status_code, body = answer["status_code"], answer["body"]
        if status_code >= 400:
            error_code, message = str(body.get("error_code", "INTERNAL_ERROR")), str(body.get("message", ""))
            return answers.error_body(form, status_code, error_code, message)
        if self._anthropic:
            body = messages_api.from_chat(body, endpoint)
        return orjson.dumps(body)


def id_of_key(user: str, endpoint: str, key: bytes) -> str:
    """The request id of an Idempotency-Key: the same for the same user, endpoint and key, on every ingress."""
    text = key.decode("latin-1").strip()
    if not 0 < len(text) <= MAX_IDEMPOTENCY_KEY_CHARS:
        raise InvalidParameter(f"Idempotency-Key: must have 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters, not {len(text)}")
    return str(uuid.uuid5(IDEMPOTENCY_NAMESPACE, orjson.dumps([user, endpoint, text]).decode()))


async def exchange(gateway: Gateway, request: Request, caller: Token, receive: Receive) -> Answer:
    """Send the request and wait for its answer. Raises ClientGone, Unavailable, AlreadyExists or DeadlineExceeded."""
    deadline_s = gateway.settings.deadline_s
    answer, first = gateway.waiting.join(request.request_id, request.digest)
    gateway.metrics.waiting.inc()
    listener = asyncio.ensure_future(_watch_client(receive, answer))
    timer = asyncio.get_running_loop().call_later(deadline_s + GRACE_S, _expire, answer, request.request_id, deadline_s)
    nobody_waits = False
    try:
        if first:
            await send_request(gateway, request, caller, lambda error: gateway.waiting.fail(request.request_id, error))
        return await answer
    except ClientGone:
        nobody_waits = True
        raise
    finally:
        timer.cancel()
        listener.cancel()
        gateway.metrics.waiting.dec()
        if gateway.waiting.leave(request.request_id, answer) and nobody_waits:
            await tell_cancelled(gateway, request)


def _expire(answer: asyncio.Future[Answer], request_id: str, deadline_s: float) -> None:
    if not answer.done():
        answer.set_exception(DeadlineExceeded(f"request {request_id} has no answer after its deadline of {deadline_s:g} s"))


async def _watch_client(receive: Receive, answer: asyncio.Future[Answer]) -> None:
    """End the wait when the client closes its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not answer.done():
        answer.set_exception(ClientGone())
