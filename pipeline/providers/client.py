"""Calls a served entity and tells what came of it: the only way from the gateway to a model.

One httpx transport over aiohttp's connections serves all providers, without httpx's client around it: there is nothing for it to do (no
redirects, no cookies, no authentication of its own), and it would take a tenth of the worker's time. A call has one deadline over
connecting, sending and reading; the answer is read in pieces up to a cap, compressed or not. Nothing a provider does raises: it becomes
a ProviderResult that says whose fault it was. Proxies of the environment are not used, and a key that a provider repeats in its answer
is blotted out before anyone reads it. Which entity is asked, and what happens next, is core/routing.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import socket
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx

from pipeline.core import texts
from pipeline.core.together import as_chunk
from pipeline.endpoints import ServedEntity
from pipeline.errors import InvalidParameter
from pipeline.providers import anthropic, anthropic_stream, openai, openai_stream, wire
from pipeline.providers.addresses import AddressRefused
from pipeline.providers.connections import guarded_transport, what_happened
from pipeline.providers.result import Failure, ProviderResult
from pipeline.providers.secrets import Secret, SecretMissing
from pipeline.providers.sse import Event, EventParser
from pipeline.settings import Settings

__all__ = ["Failure", "ProviderClient", "ProviderResult"]

CLIENT_FAULTS = frozenset({400, 404, 413, 422})
MAX_RETRY_AFTER_S = 3_600
# A shorter key could be an ordinary word of an answer; blotting it out would spoil the text.
MIN_BLOTTED_CHARACTERS = 8
_FIXED_HEADERS = [
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
    ("accept-encoding", "identity"),
    ("user-agent", "sluice-gateway"),
]
# An event of a stream is some hundred bytes around a few letters, which are all that is kept of it: so much of each counts only in part
# towards the cap, or a long answer in small pieces would come to its end at a tenth of what a whole one may have.
_ENVELOPE_BYTES = 512
_ENVELOPE_SHARE = 8
_END_S = 0.02
_HEADER_SAFE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


# What a stream told of itself: input and output tokens, the model.
Told = tuple[tuple[int | None, int | None], str | None]


class _TooLarge(Exception):
    """The answer is larger than what is read."""


class ProviderClient:
    """`start` once, `call` from any number of tasks of the same event loop, `stop` once. `may_send`: as in connections.py."""

    def __init__(self, settings: Settings, may_send: Callable[[], None] = lambda: None) -> None:
        self._settings, self._may_send = settings, may_send
        self._transport: httpx.AsyncBaseTransport | None = None
        self._urls: dict[str, httpx.URL] = {}

    async def start(self) -> None:
        """Make the connection pool; it has no limit, how much is under way at once is the caller's to bound."""
        self._transport = guarded_transport(self._settings, self._may_send)

    async def stop(self) -> None:
        """Close all connections; calls under way end as failures."""
        if self._transport is not None:
            await self._transport.aclose()

    async def call(self, entity: ServedEntity, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str) -> ProviderResult:
        """What `entity` answers to `body` within `timeout_s`. Never raises, but for CancelledError.

        `body` is a request in OpenAI's shape of `task`; it is not changed. On success the result's body has that shape too.
        """
        name = f"served entity '{entity.label}'"
        outgoing = self._outgoing(name, entity, body, task, stream=False)
        if isinstance(outgoing, ProviderResult):
            return outgoing
        try:
            async with asyncio.timeout(timeout_s):
                status, headers, data = await self._exchange(outgoing, request_id)
        except Exception as exc:  # whatever a provider or its network does is a failed call, and the next one is tried
            return self._failed_call(name, exc, timeout_s)
        data = _blotted(data, outgoing.secret)
        if not 200 <= status < 300:
            return _refusal(name, status, headers, data)
        return self._answer(name, entity, body, task, headers, data)

    async def stream(
        self, entity: ServedEntity, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str
    ) -> AsyncGenerator[dict[str, Any] | ProviderResult, None]:
        """What `entity` answers to `body`, chunk by chunk in OpenAI's shape, and at last what it came to, as `call` has it: its body is
        None, tokens are the provider's, or estimated from what came. Never raises, but for CancelledError; closing it ends the call.
        """
        name = f"served entity '{entity.label}'"
        outgoing = self._outgoing(name, entity, body, task, stream=True)
        if isinstance(outgoing, ProviderResult):
            yield outgoing
            return
        said, model = 0, None
        tokens: tuple[int | None, int | None] = None, None
        failed: ProviderResult | None = None
        try:
            async with asyncio.timeout(timeout_s) as limit:
                response = await self._send(outgoing, request_id)
            deadline_s = limit.when()
            assert deadline_s is not None
            async with aclosing(self._events(name, entity, body, task, response, outgoing.secret, deadline_s)) as events:
                async for item in events:
                    if isinstance(item, ProviderResult):
                        failed = item
                        break
                    if isinstance(item, dict):
                        said += texts.characters(texts.answer_texts(item))
                        yield item
                    else:
                        tokens, model = item
        except Exception as exc:  # as above
            failed = self._failed_call(name, exc, timeout_s)
        input_tokens = wire.estimated_input_tokens(body) if tokens[0] is None else tokens[0]
        output_tokens = (said + 1) // 4 if tokens[1] is None else tokens[1]
        model = model or entity.external_model.name
        if failed is None:
            yield ProviderResult(200, input_tokens=input_tokens, output_tokens=output_tokens, served_model_name=model)
        else:
            yield replace(failed, input_tokens=input_tokens, output_tokens=output_tokens)

    async def _events(
        self,
        name: str,
        entity: ServedEntity,
        body: dict[str, Any],
        task: str,
        response: httpx.Response,
        secret: Secret | None,
        deadline_s: float,
    ) -> AsyncGenerator[dict[str, Any] | Told | ProviderResult, None]:
        """A stream's chunks, then what it told of itself; or the refusal, where it is none. Raises what goes wrong."""
        status, headers = response.status_code, response.headers
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            media_type = _media_type(headers)
            if not 200 <= status < 300 or media_type != "text/event-stream":
                async with asyncio.timeout_at(deadline_s):
                    data = _blotted(await self._read(headers, response.stream), secret)
                result = (
                    self._answer(name, entity, body, task, headers, data) if 200 <= status < 300 else _refusal(name, status, headers, data)
                )
                if result.body is None:
                    yield result
                else:
                    yield as_chunk(result.body, task)
                    yield (result.input_tokens, result.output_tokens), result.served_model_name
                return
            dialect = anthropic_stream.AnthropicStream if entity.external_model.provider == "anthropic" else openai_stream.OpenAIStream
            answer = dialect(task, int(time.time()))
            parser = EventParser()
            cap, size = self._settings.max_provider_bytes, 0
            pieces = self._pieces(headers, response.stream, cap * _ENVELOPE_SHARE)
            while not answer.ended:
                async with asyncio.timeout_at(deadline_s):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                for event in parser.feed(piece):
                    size += max(len(event.data) - _ENVELOPE_BYTES, len(event.data) // _ENVELOPE_SHARE)
                    if size > cap:
                        raise _TooLarge
                    if not answer.ended:
                        for chunk in answer.take(Event(event.kind, _blotted(event.data, secret))):
                            yield chunk
            if not answer.is_whole:
                raise wire.Garbage("ends in the middle")
            if answer.ended:
                # Where the end of the body comes with that of the answer, or close behind, the connection can be used again. Whatever else
                # comes is no matter of this answer's.
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(_END_S):
                        while await anext(pieces, None) is not None:
                            pass
            yield answer.tokens, answer.model
        finally:
            await response.stream.aclose()

    def _outgoing(
        self, name: str, entity: ServedEntity, body: dict[str, Any], task: str, *, stream: bool
    ) -> wire.Outgoing | ProviderResult:
        """The call to make, or why it can't be made."""
        try:
            if entity.external_model.provider == "anthropic":
                return anthropic.outgoing(entity, body, self._settings, stream=stream)
            return openai.outgoing(entity, body, task, self._settings, stream=stream)
        except InvalidParameter as exc:
            return _failed(Failure.CLIENT, 0, exc.message)
        except SecretMissing as exc:
            return _failed(Failure.PROVIDER, 0, f"{name}: {exc.message}")
        except Exception:  # a field of an unforeseen type; a request must never stop the worker
            return _failed(Failure.CLIENT, 0, f"the request can't be put into the form that {name} takes; check the types of its fields")

    def _failed_call(self, name: str, exc: Exception, timeout_s: float) -> ProviderResult:
        """What a call came to that `exc` ended."""
        match exc:
            case TimeoutError():
                return _failed(Failure.PROVIDER, 0, f"{name} did not answer within {timeout_s:.3g} s")
            case wire.Garbage():
                return _failed(Failure.PROVIDER, 0, f"{name} sent an answer that {exc}")
            case wire.BrokenOff():
                failure = Failure.RATE_LIMITED if exc.kind == "rate_limit_error" else Failure.PROVIDER
                return _failed(failure, 0, f"{name} broke off: {exc.words}")
            case _TooLarge():
                return _failed(Failure.PROVIDER, 0, f"{name} sent an answer larger than {self._settings.max_provider_bytes} bytes")
        return _failed(Failure.PROVIDER, 0, f"{name} {what_happened(exc, _NETWORK)}")

    async def _exchange(self, outgoing: wire.Outgoing, request_id: str) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and the whole body of the provider's answer."""
        response = await self._send(outgoing, request_id)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            return response.status_code, response.headers, await self._read(response.headers, response.stream)
        finally:
            await response.stream.aclose()

    async def _send(self, outgoing: wire.Outgoing, request_id: str) -> httpx.Response:
        """The provider's answer, of which nothing but the head has been read."""
        if self._transport is None:
            raise RuntimeError("the provider client has not been started")
        url = self._urls.get(outgoing.url)
        if url is None:
            # Addresses come from configuration only, so there are few.
            url = self._urls[outgoing.url] = httpx.URL(outgoing.url)
        mark = request_id if request_id.isascii() and " " not in request_id else quote(request_id, safe=_HEADER_SAFE)
        headers = [*_FIXED_HEADERS, ("x-client-request-id", mark), *outgoing.headers]
        # Without timeouts of its own: the one deadline over a call is asyncio's.
        return await self._transport.handle_async_request(httpx.Request("POST", url, headers=headers, content=outgoing.content))

    async def _read(self, headers: httpx.Headers, stream: httpx.AsyncByteStream) -> bytes:
        """The body, decompressed; _TooLarge as soon as it is over the cap, before or after."""
        pieces = [piece async for piece in self._pieces(headers, stream, self._settings.max_provider_bytes)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _pieces(self, headers: httpx.Headers, stream: httpx.AsyncByteStream, cap: int) -> AsyncIterator[bytes]:
        """The body as it comes; otherwise as `_read`."""
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip", "deflate"):
            raise wire.Garbage("is compressed in a way that was not asked for")
        # wbits 47: gzip's and zlib's header alike.
        unpack = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
        size = 0
        async for piece in stream:
            if unpack is not None:
                piece = unpack.decompress(piece, cap + 1)
            size += len(piece)
            if size > cap:
                raise _TooLarge
            yield piece
        if unpack is not None and not unpack.eof:
            raise wire.Garbage("ends in the middle")

    def _answer(
        self, name: str, entity: ServedEntity, body: dict[str, Any], task: str, headers: httpx.Headers, data: bytes
    ) -> ProviderResult:
        try:
            media_type = _media_type(headers)
            if media_type != "application/json" and not media_type.endswith("+json"):
                raise wire.Garbage("is not JSON by its content type")
            value = wire.parse(data)
            if entity.external_model.provider == "anthropic":
                answer = anthropic.answer(value, body, int(time.time()))
            else:
                answer = openai.answer(value, body, task)
        except wire.Garbage as exc:
            return _failed(Failure.PROVIDER, 0, f"{name} sent an answer that {exc}")
        except Exception:  # an answer of an unforeseen shape
            return _failed(Failure.PROVIDER, 0, f"{name} sent an answer that can't be read")
        return ProviderResult(
            200,
            body=answer.body,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            served_model_name=answer.model or entity.external_model.name,
        )


def _media_type(headers: httpx.Headers) -> str:
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


def _failed(failure: Failure, status: int, error: str, retry_after_s: int | None = None) -> ProviderResult:
    return ProviderResult(status, failure=failure, error=wire.one_line(error), retry_after_s=retry_after_s)


def _refusal(name: str, status: int, headers: httpx.Headers, data: bytes) -> ProviderResult:
    """An answer that is no success."""
    words = wire.error_message(data)
    if status in CLIENT_FAULTS:
        return _failed(Failure.CLIENT, status, words or f"{name} refused the request with status {status}")
    wait_s = _retry_after_s(headers.get("retry-after"))
    if status == 429:
        return _failed(Failure.RATE_LIMITED, status, f"{name} is over its provider's rate limit (429){words and ': ' + words}", wait_s)
    if status in (401, 403):
        # The provider's own words here tend to repeat the key, or parts of it.
        return _failed(
            Failure.PROVIDER, status, f"{name}: the provider refused the gateway's key ({status}); check the secret and its rights"
        )
    if 300 <= status < 400:
        return _failed(Failure.PROVIDER, status, f"{name} answered with a redirect ({status}), which is not followed; correct its address")
    return _failed(Failure.PROVIDER, status, f"{name} answered {status}{words and ': ' + words}", wait_s)


def _retry_after_s(value: str | None) -> int | None:
    """The `retry-after` header, seconds or a date, in whole seconds from 0 to an hour; None where there is none to understand."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    if not math.isfinite(seconds):
        return None
    return math.ceil(min(max(seconds, 0.0), MAX_RETRY_AFTER_S))


def _blotted(data: bytes, secret: Secret | None) -> bytes:
    """`data` without our key, should the provider have repeated it."""
    if secret is None:
        return data
    key = secret.reveal().encode()
    return data.replace(key, b"***") if len(key) >= MIN_BLOTTED_CHARACTERS and key in data else data


# See `what_happened`.
_NETWORK: tuple[tuple[type[BaseException], str], ...] = (
    (AddressRefused, ""),
    (aiohttp.InvalidURL, "has an address that is not valid"),
    (httpx.InvalidURL, "has an address that is not valid"),
    (zlib.error, "sent an answer that can't be decompressed"),
    (aiohttp.ClientConnectorCertificateError, "has a TLS certificate that can't be trusted"),
    (aiohttp.ClientSSLError, "does not speak TLS as it should"),
    (socket.gaierror, "has a host name that can't be resolved"),
    (aiohttp.ClientConnectorDNSError, "has a host name that can't be resolved"),
    (ConnectionRefusedError, "refused the connection"),
    (aiohttp.ServerDisconnectedError, "closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "broke off in the middle of its answer"),
    (ConnectionResetError, "reset the connection"),
    (aiohttp.ClientConnectorError, "can't be reached"),
)
