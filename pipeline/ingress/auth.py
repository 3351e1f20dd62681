"""Who is calling: a token in the headers, looked up by its hash. Nothing else says who the user is.

Fails closed: no token, two tokens, an unknown or revoked one is 401, a call that needs an admin is 403. The token itself
appears in no message and no log.
"""

from __future__ import annotations

from typing import Protocol

from pipeline.commands_client import token_hash
from pipeline.endpoints import Token
from pipeline.errors import PermissionDenied, Unauthenticated
from pipeline.ingress.answers import Form

RawHeaders = list[tuple[bytes, bytes]]
MAX_TOKEN_BYTES = 512
HOW = "send the header `Authorization: Bearer TOKEN`; an admin makes tokens with `sluice token create USER`"


class Tokens(Protocol):
    """Where tokens are known, by their hash."""

    def get(self, key: str, revision: int = 0) -> Token | None: ...


def authenticate(raw_headers: RawHeaders, form: Form, tokens: Tokens) -> Token:
    """The token's owner. Raises Unauthenticated."""
    given = _given(raw_headers, form)
    if given is None:
        raise Unauthenticated(f"no access token: {HOW}")
    return owner_of(given, tokens)


def owner_of(given: bytes, tokens: Tokens) -> Token:
    """The owner of this token. Raises Unauthenticated."""
    if len(given) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"this is not one of this gateway's access tokens: {HOW}")
    caller = tokens.get(token_hash(given.decode("latin-1")))
    if caller is None:
        raise Unauthenticated(f"the access token is not known here, or has been revoked: {HOW}")
    return caller


def require_admin(caller: Token, what: str) -> None:
    """Raises PermissionDenied where the caller is no admin; `what` names the act."""
    if not caller.admin:
        raise PermissionDenied(f"{what} needs an admin's token; '{caller.user}' is not one (`sluice token create USER --admin`)")


def _given(raw_headers: RawHeaders, form: Form) -> bytes | None:
    bearer = key = None
    for name, value in raw_headers:
        if name == b"authorization":
            if bearer is not None:
                raise Unauthenticated("two Authorization headers; send one")
            scheme, _, bearer = value.partition(b" ")
            bearer = bearer.strip()
            if scheme.lower() != b"bearer" or not bearer:
                raise Unauthenticated(f"the Authorization header is not of the form `Bearer TOKEN`: {HOW}")
        elif name == b"x-api-key" and form == "anthropic":
            if key is not None:
                raise Unauthenticated("two x-api-key headers; send one")
            key = value.strip()
    if bearer and key and bearer != key:
        raise Unauthenticated("Authorization and x-api-key hold different tokens; send one of them")
    return bearer or key
