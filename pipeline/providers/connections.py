"""Connections to models, for served entities and for safety engines alike: who may be reached, and how what goes wrong is told.

The address is checked where the socket is made; there are no redirects, no proxies of the environment and no cookies. Decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from pipeline.providers.addresses import guarded_socket
from pipeline.settings import Settings

# Below the 5 s after which uvicorn, and so vLLM, closes an idle connection: a call must not meet the closing.
KEEP_ALIVE_S = 4.0


def guarded_transport(settings: Settings) -> httpx.AsyncBaseTransport:
    """A connection pool without a limit, which connects to allowed addresses only; made and closed within the event loop that uses it."""
    tls = httpx.create_ssl_context(trust_env=False)
    connector = aiohttp.TCPConnector(
        limit=0, ssl=tls, keepalive_timeout=KEEP_ALIVE_S, socket_factory=guarded_socket(settings.allow_private_providers)
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
