"""A streamed answer on its way to the client: what core/following.py makes of the records goes out as server-sent events.

Nothing goes out before the first piece, so that what fails before it is an ordinary answer with its status. After it an error is an event.
While nothing comes, comments keep the connection open. A client that goes away, or that no longer reads when the deadline has passed, is
told to the workers, which end the call of the model.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import Receive, Send

from pipeline.core.following import Failure, Following
from pipeline.endpoints import Token
from pipeline.errors import DeadlineExceeded, SluiceError
from pipeline.ingress import answers, sse
from pipeline.ingress.feed import Feed
from pipeline.ingress.http_body import ClientGone
from pipeline.ingress.replies import Answer
from pipeline.ingress.sending import GRACE_S, Gateway, Request, send_request, tell_cancelled

KEEP_ALIVE_S = 15.0


async def stream(
    gateway: Gateway, request: Request, caller: Token, dialect: sse.Dialect, receive: Receive, send: Send
) -> tuple[int, Answer | None]:
    """Send the request and stream its answer. The status of what went out; or an answer that is none, still to be sent whole.

    Raises ClientGone, Unavailable, AlreadyExists or DeadlineExceeded while nothing has gone out, later ClientGone alone.
    """
    feed = gateway.waiting.follow(request.request_id, request.digest)
    gateway.metrics.waiting.inc()
    listener = asyncio.ensure_future(_watch_client(receive, feed))
    out = _Out(send, request.request_id, dialect, time.monotonic() + gateway.settings.deadline_s + GRACE_S)
    gone = False
    try:
        await send_request(gateway, request, caller, feed.fail)
        following = Following(request.endpoint.config.task)
        try:
            while not following.ended:
                record = await feed.get(min(KEEP_ALIVE_S, out.left_s))
                if record is not None:
                    chunks = following.take(record)
                    if following.error is not None and not out.begun:
                        return following.error.status_code, _as_answer(following)
                    await out.chunks(following, chunks)
                elif out.left_s <= 0:
                    raise DeadlineExceeded(
                        f"request {request.request_id} has no whole answer after its deadline of {gateway.settings.deadline_s:g} s"
                    )
                elif out.begun:
                    await out.write(sse.KEEP_ALIVE)
            failure = following.error
        except SluiceError as exc:
            if not out.begun:
                raise
            gone = True
            failure = Failure.of(exc)
        await out.end(failure, following.usage or {})
        return failure.status_code if failure else 200, None
    except ClientGone:
        gone = True
        raise
    finally:
        listener.cancel()
        gateway.metrics.waiting.dec()
        if gateway.waiting.leave(request.request_id, feed) and gone:
            await tell_cancelled(gateway, request)


def _as_answer(following: Following) -> Answer:
    error = following.error
    assert error is not None
    body = {"error_code": error.error_code, "message": error.message}
    return {**(following.head or {}), "status_code": error.status_code, "body": body, "retry_after_s": error.retry_after_s}


class _Out:
    """The connection to the client. A write that is not taken before `deadline_s` (of time.monotonic) counts as the client's going."""

    def __init__(self, send: Send, request_id: str, dialect: sse.Dialect, deadline_s: float) -> None:
        self._send, self._request_id, self._dialect, self._deadline_s = send, request_id, dialect, deadline_s
        self.begun = False

    @property
    def left_s(self) -> float:
        return self._deadline_s - time.monotonic()

    async def chunks(self, following: Following, chunks: list[dict[str, object]]) -> None:
        if chunks and not self.begun:
            self.begun = True
            head = answers.answer_headers({**(following.head or {}), "status_code": 200})
            mark = (b"x-request-id", answers.header_text(self._request_id))
            await self._message({"type": "http.response.start", "status": 200, "headers": [*sse.HEADERS, mark, *head]})
        for chunk in chunks:
            await self.write(self._dialect.chunk(chunk))

    async def write(self, data: bytes, *, more: bool = True) -> None:
        await self._message({"type": "http.response.body", "body": data, "more_body": more})

    async def end(self, failure: Failure | None, usage: dict[str, int]) -> None:
        await self.write(self._dialect.end(usage) if failure is None else self._dialect.error(failure), more=False)

    async def _message(self, message: dict[str, object]) -> None:
        try:
            # One that has passed still leaves a moment for the error that says so.
            async with asyncio.timeout(max(self.left_s, 1.0)):
                await self._send(message)
        except TimeoutError:
            raise ClientGone from None


async def _watch_client(receive: Receive, feed: Feed) -> None:
    """End the stream when the client closes its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    feed.fail(ClientGone())
