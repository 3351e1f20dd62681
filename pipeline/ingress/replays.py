"""A logged request that is sent again to be compared (`sluice replay`): how the door knows one, and what its answer tells.

    x-sluice-replay-of: ID      in, percent-encoded: the logged request that this one is a replay of
    x-sluice-replayed: JSON     out: what the row would say of it, since it has none: served entity, time, tokens, guardrails

The header takes a request out of limits, usage figures and inference tables, so it is an admin's alone: anybody else gets 403.
"""

from __future__ import annotations

import json
from urllib.parse import unquote_to_bytes

from pydantic import TypeAdapter, ValidationError

from pipeline.endpoints import Token
from pipeline.errors import InvalidParameter
from pipeline.ingress.answers import Header
from pipeline.ingress.auth import require_admin
from pipeline.ingress.http_body import Headers
from pipeline.ingress.replies import Answer
from pipeline.records import MAX_REQUEST_ID_CHARS, REPLAY_OF_HEADER, REPLAYED_HEADER, RequestId

REPLAY_OF, REPLAYED = REPLAY_OF_HEADER.encode(), REPLAYED_HEADER.encode()
_ID: TypeAdapter[str] = TypeAdapter(RequestId)


def replay_of(headers: Headers, caller: Token) -> str:
    """The id of the request that this one is a replay of, empty where it is none. Raises PermissionDenied, InvalidParameter."""
    given = headers.get(REPLAY_OF)
    if given is None:
        return ""
    require_admin(caller, "replaying a logged request")
    try:
        return _ID.validate_python(unquote_to_bytes(given.strip()).decode())
    except (UnicodeDecodeError, ValidationError):
        raise InvalidParameter(
            f"{REPLAY_OF_HEADER}: must be the id of a logged request, of 1 to {MAX_REQUEST_ID_CHARS} characters, percent-encoded"
        ) from None


def facts(answer: Answer) -> list[Header]:
    """The header that tells what came of a replayed request; none for any other."""
    replayed = answer.get("replayed")
    if replayed is None:
        return []
    told = {"served_entity": answer.get("served_entity"), "execution_time_ms": answer["execution_time_ms"], **replayed}
    return [(REPLAYED, json.dumps(told, separators=(",", ":")).encode("ascii"))]
