"""Connections to models, for served entities and for safety engines alike: who may be reached, and how what goes wrong is told.

The address is checked where the socket is made; there are no redirects, no proxies of the environment and no cookies. Decides nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from pipeline.providers.addresses import guarded_socket
from pipeline.settings import Settings

# Below the 5 s after which uvicorn, and so vLLM, closes an idle connection: a call must not meet the closing.
KEEP_ALIVE_S = 4.0


class _Connector(aiohttp.TCPConnector):
    """Asks `may_send` when the connection is there, and the request is written next."""

    def __init__(self, may_send: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._may_send = may_send

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's."""
        connection = await super().connect(*args, **kwargs)
        try:
            self._may_send()
        except BaseException:
            connection.close()
            raise
        return connection


def guarded_transport(settings: Settings, may_send: Callable[[], None] = lambda: None) -> httpx.AsyncBaseTransport:
    """A connection pool without a limit, which connects to allowed addresses only; made and closed within the event loop that uses it.
    `may_send` is called before each request, at the last moment: what it raises ends the request."""
    tls = httpx.create_ssl_context(trust_env=False)
    connector = _Connector(
        may_send, limit=0, ssl=tls, keepalive_timeout=KEEP_ALIVE_S, socket_factory=guarded_socket(settings.allow_private_providers)
    )
    # A provider's cookie set for one user must not travel with another's request.
    session = aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
    return AiohttpTransport(verify=tls, trust_env=False, client=session)


def what_happened(exc: BaseException, known: Iterable[tuple[type[BaseException], str]]) -> str:
    """What went wrong on the network, in our own words: those of the libraries name addresses.

    `known`: kinds of errors with their words, the more particular first; for empty words the error has its own, and they name no address.
    """
    chain = [exc]
    while (cause := chain[-1].__cause__ or getattr(chain[-1], "os_error", None)) and cause not in chain:
        chain.append(cause)
    for kind, words in known:
        for link in chain:
            if isinstance(link, kind):
                return words or str(link)
    return "broke the connection or HTTP itself"
