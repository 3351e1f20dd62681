"""Reads a request's body from ASGI, with every check that is possible before its JSON is looked at.

A body is refused by its headers alone where they tell enough, and while it is being read otherwise: no more than the limit is
ever held. What a refused client still sends is read and thrown away by the server, so that it gets to see the answer.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from pipeline.errors import InvalidParameter, PayloadTooLarge, UnsupportedMedia

Headers = dict[bytes, bytes]
# A client that sends nothing for so long in the middle of its body is not waited for.
BODY_TIMEOUT_S = 60.0


class ClientGone(Exception):
    """The client has closed its connection: no error, since nobody is left to be told one."""


def check_headers(headers: Headers, max_bytes: int) -> None:
    """Raises UnsupportedMedia, PayloadTooLarge or InvalidParameter by what the headers say of the body."""
    kind, _, parameters = headers.get(b"content-type", b"").partition(b";")
    if kind.strip().lower() != b"application/json":
        given = kind.decode("latin-1")[:80] or "missing"
        raise UnsupportedMedia(f"Content-Type is {given}; send JSON with the header `Content-Type: application/json`")
    if b"charset" in parameters.lower() and b"utf-8" not in parameters.lower():
        raise UnsupportedMedia("the body must be UTF-8; leave the charset out of Content-Type")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        encoding = headers[b"content-encoding"].decode("latin-1")[:40]
        raise UnsupportedMedia(f"Content-Encoding {encoding} is not supported; send the body uncompressed")
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)


async def read_json_body(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    """The whole body. Raises as `check_headers`, and ClientGone where it ends early."""
    check_headers(headers, max_bytes)
    return await read_body(receive, max_bytes)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body, whatever it is. Raises PayloadTooLarge, InvalidParameter, and ClientGone where it ends early."""
    body, more = await _next(receive)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if not more:
        # The usual case: all of it in one piece.
        return body
    parts = bytearray(body)
    while more:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body, more = await _next(receive)
        except TimeoutError:
            raise InvalidParameter(f"the body stopped arriving for {BODY_TIMEOUT_S:g} s; send it whole") from None
        parts += body
        if len(parts) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(parts)


async def _next(receive: Receive) -> tuple[bytes, bool]:
    """The next piece of the body, and whether more follows."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over the limit of {max_bytes} bytes; send less text in one request")
