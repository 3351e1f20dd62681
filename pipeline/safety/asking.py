"""One JSON question to a safety model elsewhere, and its JSON answer, for the remote engines.

What providers/client.py does for models holds here too: the address is checked where the socket is made, no redirects, no proxies, no
cookies, one deadline over everything, a cap on the answer's size, and the key is read from its secret at the moment of the call. Whatever
goes wrong is a SafetyUnavailable that tells the cause in our own words: never the text, the key, the address or the model's words.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import httpx
import orjson

from pipeline.providers import wire
from pipeline.providers.addresses import AddressRefused
from pipeline.providers.connections import guarded_transport, what_happened
from pipeline.providers.secrets import SecretMissing, is_reference, resolve
from pipeline.settings import Settings

MAX_ANSWER_BYTES = 4 * 1024 * 1024


class SafetyUnavailable(Exception):
    """The engine could not judge. The message is fit for logs and assessments."""


class Asking:
    """Posts to one address. `transport` None: one of its own, made at the first question. ValueError where a setting is wrong."""

    def __init__(self, name: str, url: str, settings: Settings, transport: httpx.AsyncBaseTransport | None) -> None:
        self._name = name
        self._settings = settings
        self._transport = transport
        self._own = transport is None
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError(f"SLUICE_SAFETY_URL is not a valid address for the safety engine '{name}'") from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError(f"SLUICE_SAFETY_URL must be an http or https address for the safety engine '{name}'")
        if settings.safety_key and not is_reference(settings.safety_key):
            # Not at the first request, and without its value, which may be the key itself.
            raise ValueError(f"SLUICE_SAFETY_KEY must be a reference {{{{secrets/SCOPE/KEY}}}}, not a key, for the safety engine '{name}'")

    async def ask(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The JSON object that answers `question` within `timeout_s`; SafetyUnavailable where there is none."""
        try:
            content = orjson.dumps(question)
        except TypeError:
            # A lone surrogate: no UTF-8 text, so nothing that could be sent.
            raise SafetyUnavailable(f"the {self._name} engine can't be asked: the text is not valid Unicode") from None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(content)
        except TimeoutError:
            cause = f"did not answer within {timeout_s:.3g} s"
        except SafetyUnavailable:
            raise
        except wire.Garbage as exc:
            cause = f"sent an answer that {exc}"
        except Exception as exc:  # whatever the network or the other side does, nobody has judged the text
            cause = what_happened(exc, _NETWORK)
        raise SafetyUnavailable(f"the {self._name} engine {cause}")

    async def close(self) -> None:
        """Close the connections, where they are its own."""
        if self._own and self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def _exchange(self, content: bytes) -> dict[str, Any]:
        if self._transport is None:
            self._transport = guarded_transport(self._settings)
        headers = [("content-type", "application/json"), ("accept", "application/json"), ("accept-encoding", "identity")]
        if self._settings.safety_key:
            try:
                key = resolve(self._settings.safety_key, self._settings)
            except SecretMissing as exc:
                raise SafetyUnavailable(f"the {self._name} engine has no key: {exc.message}") from None
            headers.append(("authorization", f"Bearer {key.reveal()}"))
        response = await self._transport.handle_async_request(httpx.Request("POST", self._url, headers=headers, content=content))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            if response.status_code != 200:
                raise SafetyUnavailable(f"the {self._name} engine {_refusal(response.status_code)}")
            if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
                raise wire.Garbage("is compressed, which was not asked for")
            data = bytearray()
            async for piece in response.stream:
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    raise wire.Garbage(f"is larger than {MAX_ANSWER_BYTES} bytes")
        finally:
            await response.stream.aclose()
        return wire.parse(bytes(data))


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"refused the gateway's key ({status}); check SLUICE_SAFETY_KEY"
    if status == 429:
        return "is over its rate limit (429)"
    if 300 <= status < 400:
        return f"answered with a redirect ({status}), which is not followed; correct SLUICE_SAFETY_URL"
    return f"answered {status}"


# See `what_happened`.
_NETWORK: tuple[tuple[type[BaseException], str], ...] = (
    (AddressRefused, ""),
    (aiohttp.ClientSSLError, "has a TLS certificate that can't be trusted, or speaks no TLS"),
    (socket.gaierror, "has a host name that can't be resolved"),
    (aiohttp.ClientConnectorDNSError, "has a host name that can't be resolved"),
    (ConnectionRefusedError, "refused the connection"),
    (aiohttp.ClientConnectorError, "can't be reached"),
)
