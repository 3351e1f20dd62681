"""Calls a served entity and tells what came of it: the only way from the gateway to a model.

One httpx transport over aiohttp's connections serves all providers, without httpx's client around it: there is nothing for it to do (no
redirects, no cookies, no authentication of its own), and it would take a tenth of the worker's time. A call has one deadline over
connecting, sending and reading; the answer is read in pieces up to a cap, compressed or not. Nothing a provider does raises: it becomes
a ProviderResult that says whose fault it was. Proxies of the environment are not used, and a key that a provider repeats in its answer
is blotted out before anyone reads it. Which entity is asked, and what happens next, is core/routing.py's.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import socket
import time
import zlib
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx

from pipeline.endpoints import ServedEntity
from pipeline.errors import InvalidParameter
from pipeline.providers import anthropic, openai, wire
from pipeline.providers.addresses import AddressRefused
from pipeline.providers.connections import guarded_transport, what_happened
from pipeline.providers.result import Failure, ProviderResult
from pipeline.providers.secrets import Secret, SecretMissing
from pipeline.settings import Settings

__all__ = ["Failure", "ProviderClient", "ProviderResult"]

CLIENT_FAULTS = frozenset({400, 404, 413, 422})
MAX_RETRY_AFTER_S = 3_600
# A shorter key could be an ordinary word of an answer; blotting it out would spoil the text.
MIN_BLOTTED_CHARACTERS = 8
_FIXED_HEADERS = [
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "sluice-gateway"),
]
_HEADER_SAFE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


class _TooLarge(Exception):
    """The answer is larger than what is read."""


class ProviderClient:
    """`start` once, `call` from any number of tasks of the same event loop, `stop` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport: httpx.AsyncBaseTransport | None = None
        self._urls: dict[str, httpx.URL] = {}

    async def start(self) -> None:
        """Make the connection pool; it has no limit, how much is under way at once is the caller's to bound."""
        self._transport = guarded_transport(self._settings)

    async def stop(self) -> None:
        """Close all connections; calls under way end as failures."""
        if self._transport is not None:
            await self._transport.aclose()

    async def call(self, entity: ServedEntity, body: dict[str, Any], *, task: str, timeout_s: float, request_id: str) -> ProviderResult:
        """What `entity` answers to `body` within `timeout_s`. Never raises, but for CancelledError.

        `body` is a request in OpenAI's shape of `task`; it is not changed. On success the result's body has that shape too.
        """
        name = f"served entity '{entity.label}'"
        try:
            outgoing = (
                anthropic.outgoing(entity, body, self._settings)
                if entity.external_model.provider == "anthropic"
                else openai.outgoing(entity, body, task, self._settings)
            )
        except InvalidParameter as exc:
            return _failed(Failure.CLIENT, 0, exc.message)
        except SecretMissing as exc:
            return _failed(Failure.PROVIDER, 0, f"{name}: {exc.message}")
        except Exception:  # a field of an unforeseen type; a request must never stop the worker
            return _failed(Failure.CLIENT, 0, f"the request can't be put into the form that {name} takes; check the types of its fields")
        try:
            async with asyncio.timeout(timeout_s):
                status, headers, data = await self._exchange(outgoing, request_id)
        except TimeoutError:
            return _failed(Failure.PROVIDER, 0, f"{name} did not answer within {timeout_s:.3g} s")
        except wire.Garbage as exc:
            return _failed(Failure.PROVIDER, 0, f"{name} sent an answer that {exc}")
        except _TooLarge:
            return _failed(Failure.PROVIDER, 0, f"{name} sent an answer larger than {self._settings.max_provider_bytes} bytes")
        except Exception as exc:  # whatever a provider or its network does is a failed call, and the next one is tried
            return _failed(Failure.PROVIDER, 0, f"{name} {what_happened(exc, _NETWORK)}")
        data = _blotted(data, outgoing.secret)
        if not 200 <= status < 300:
            return _refusal(name, status, headers, data)
        return self._answer(name, entity, body, task, headers, data)

    async def _exchange(self, outgoing: wire.Outgoing, request_id: str) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and the whole body of the provider's answer."""
        if self._transport is None:
            raise RuntimeError("the provider client has not been started")
        url = self._urls.get(outgoing.url)
        if url is None:
            # Addresses come from configuration only, so there are few.
            url = self._urls[outgoing.url] = httpx.URL(outgoing.url)
        mark = request_id if request_id.isascii() and " " not in request_id else quote(request_id, safe=_HEADER_SAFE)
        headers = [*_FIXED_HEADERS, ("x-client-request-id", mark), *outgoing.headers]
        # Without timeouts of its own: the one deadline over a call is asyncio's.
        response = await self._transport.handle_async_request(httpx.Request("POST", url, headers=headers, content=outgoing.content))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            return response.status_code, response.headers, await self._read(response.headers, response.stream)
        finally:
            await response.stream.aclose()

    async def _read(self, headers: httpx.Headers, stream: httpx.AsyncByteStream) -> bytes:
        """The body, decompressed; _TooLarge as soon as it is over the cap, before or after."""
        cap = self._settings.max_provider_bytes
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip", "deflate"):
            raise wire.Garbage("is compressed in a way that was not asked for")
        # wbits 47: gzip's and zlib's header alike.
        unpack = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
        pieces: list[bytes] = []
        size = 0
        async for piece in stream:
            if unpack is not None:
                piece = unpack.decompress(piece, cap + 1)
            size += len(piece)
            if size > cap:
                raise _TooLarge
            pieces.append(piece)
        if unpack is not None and not unpack.eof:
            raise wire.Garbage("ends in the middle")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _answer(
        self, name: str, entity: ServedEntity, body: dict[str, Any], task: str, headers: httpx.Headers, data: bytes
    ) -> ProviderResult:
        try:
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
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
