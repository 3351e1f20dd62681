"""Whose token is this: one token, in the right header, known and not revoked; everything else is nobody."""

from __future__ import annotations

import pytest

from pipeline.commands_client import token_hash
from pipeline.endpoints import Token
from pipeline.errors import PermissionDenied, Unauthenticated
from pipeline.ingress.auth import authenticate, require_admin

ALICE = Token(token_id="t1", user="alice@example.com")
BOB = Token(token_id="t2", user="bob@example.com", admin=True)


class Known:
    """The tokens that there are, as the follower of gateway.tokens gives them."""

    def __init__(self, **tokens: Token) -> None:
        self._tokens = {token_hash(text.replace("_", "-")): token for text, token in tokens.items()}

    def get(self, key: str, revision: int = 0) -> Token | None:
        return self._tokens.get(key)


TOKENS = Known(sluice_alice=ALICE, sluice_bob=BOB)


def test_a_known_token_says_who_calls() -> None:
    assert authenticate([(b"authorization", b"Bearer sluice-alice")], "openai", TOKENS) is ALICE
    assert authenticate([(b"authorization", b"bearer  sluice-bob ")], "databricks", TOKENS) is BOB


def test_messages_paths_take_the_token_as_x_api_key_and_others_do_not() -> None:
    headers = [(b"x-api-key", b"sluice-alice")]
    assert authenticate(headers, "anthropic", TOKENS) is ALICE
    with pytest.raises(Unauthenticated):
        authenticate(headers, "openai", TOKENS)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic c2x1aWNlLWFsaWNl")],
        [(b"authorization", b"sluice-alice")],
        [(b"authorization", b"Bearer unknown")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Bearer " + b"x" * 100_000)],
        [(b"authorization", b"Bearer sluice-alice"), (b"authorization", b"Bearer sluice-alice")],
        [(b"authorization", b"Bearer sluice-alice"), (b"x-api-key", b"sluice-bob")],
        [(b"x-api-key", b"sluice-alice"), (b"x-api-key", b"sluice-alice")],
        [(b"x-user", b"alice@example.com")],
    ],
)
def test_everything_else_is_401_without_the_token_in_the_message(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        authenticate(headers, "anthropic", TOKENS)
    assert "sluice-alice" not in caught.value.message
    assert "xxxx" not in caught.value.message


def test_only_an_admin_may_change_things() -> None:
    require_admin(BOB, "making a token")
    with pytest.raises(PermissionDenied, match="making a token.*alice@example.com"):
        require_admin(ALICE, "making a token")
