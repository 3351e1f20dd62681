"""What leaves the ingress: JSON bodies, the three forms of an error, and the headers that every answer has.

Which form an error takes depends on the path alone (contract, part 2), so that a client library of that path understands it
whatever went wrong. Texts that come from a provider are cleaned before they become a header.
"""

from __future__ import annotations

from typing import Any, Literal

import orjson
from starlette.types import Send

from pipeline import messages_api
from pipeline.errors import SluiceError

Form = Literal["databricks", "openai", "anthropic"]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
MESSAGES_PATHS = ("/v1/messages", "/serving-endpoints/anthropic/v1/messages")
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# How long to wait when nobody has said it: the shortest that Retry-After can express, but zero.
DEFAULT_RETRY_AFTER_S = 1


def form_of(path: str) -> Form:
    """The form that errors take on this path."""
    if path.startswith(MESSAGES_PATHS):
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "databricks"


def error_body(form: Form, status_code: int, error_code: str, message: str) -> bytes:
    """The JSON of an error in the path's form."""
    body: dict[str, Any]
    if form == "databricks":
        body = {"error_code": error_code, "message": message}
    elif form == "openai":
        kind = OPENAI_TYPES.get(status_code, "server_error" if status_code >= 500 else "invalid_request_error")
        body = {"error": {"message": message, "type": kind, "param": None, "code": error_code}}
    else:
        body = messages_api.error_body(error_code, status_code, message)
    return orjson.dumps(body)


async def respond(send: Send, status_code: int, body: bytes, request_id: str, headers: list[Header] | None = None) -> None:
    """Send a whole answer; JSON unless `headers` starts with another content type."""
    given = headers or [JSON]
    if given[0][0] != b"content-type":
        given = [JSON, *given]
    fixed = [(b"x-request-id", header_text(request_id)), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status_code, "headers": [*given, *fixed]})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, form: Form, exc: SluiceError, request_id: str) -> None:
    """Send an error that the ingress itself has found."""
    headers = retry_after(exc.status_code, exc.retry_after_s)
    await respond(send, exc.status_code, error_body(form, exc.status_code, exc.error_code, exc.message), request_id, headers)


def retry_after(status_code: int, seconds: int | None) -> list[Header]:
    """`retry-after` in whole seconds on 429 and 503, where clients that repeat by themselves look for it."""
    if status_code not in (429, 503):
        return []
    return [(b"retry-after", b"%d" % max(seconds or 0, DEFAULT_RETRY_AFTER_S))]


def answer_headers(answer: dict[str, Any]) -> list[Header]:
    """The headers that say who served the request, after how many attempts, and what is left of the tightest limit."""
    headers = [(b"x-sluice-attempts", b"%d" % (answer.get("attempts") or 0))]
    if answer.get("served_model"):
        headers.append((b"served-model-name", header_text(answer["served_model"])))
    limit = answer.get("rate_limit")
    if limit:
        headers += [
            (b"x-ratelimit-limit-requests", b"%d" % limit["limit"]),
            (b"x-ratelimit-remaining-requests", b"%d" % limit["remaining"]),
            (b"x-ratelimit-reset-requests", b"%d" % limit["reset_s"]),
        ]
    return headers + retry_after(answer["status_code"], answer.get("retry_after_s"))


def header_text(text: str) -> bytes:
    """`text` as a header's value: printable ASCII, everything else as `?`, so that no line can be smuggled in."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:256]).encode("ascii")
