"""`/dashboard`: the page that `sluice dashboard` has made, for admins. Programs send their token in the header; browsers log in with it.

    GET  /dashboard          the page; a form that asks for the token where there is none that may see it
    POST /dashboard/login    takes the form, and leaves the token in a cookie that scripts can't read and that goes nowhere but here
    POST /dashboard/logout   takes the cookie away

The token is looked up at every request, so that a revoked one shows nothing any more. The page may run its own script and nothing else,
and loads nothing. Fails closed: whatever is wrong with the token ends at the form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

import uuid_utils
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipeline.errors import PermissionDenied, SluiceError, Unauthenticated
from pipeline.ingress.answers import Header, respond
from pipeline.ingress.auth import Tokens, authenticate, owner_of, require_admin
from pipeline.ingress.http_body import read_body

PAGE, LOGIN, LOGOUT = PATHS = ("/dashboard", "/dashboard/login", "/dashboard/logout")
Act = Callable[[Scope, Receive, Send], Awaitable[None]]
COOKIE = "sluice_token"
COOKIE_S = 8 * 3600
MAX_FORM_BYTES = 4096
SAFE: list[Header] = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
                                 b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]  # fmt: skip
FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Sluice: dashboard</title><link rel="icon" href="data:,">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:15vh auto;padding:0 16px}
input,button{font:inherit;width:100%;padding:8px;margin:4px 0 12px;box-sizing:border-box}</style></head>
<body><h1>AI gateway</h1><p role="status">MESSAGE</p><form method="post" action="/dashboard/login">
<label for="token">Admin's access token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Show the dashboard</button></form></body></html>
"""
NO_PAGE = "There is no page yet. `sluice dashboard` makes it, and makes it anew each time it runs: see docs/dashboard.md."


def routes(file: Path, tokens: Tokens) -> list[Route]:
    """The three paths. `file`: where the page lies."""
    door = _Door(file, tokens)
    return [
        Route(PAGE, _App(door.show), methods=["GET"]),
        Route(LOGIN, _App(door.login), methods=["POST"]),
        Route(LOGOUT, _App(door.logout), methods=["POST"]),
    ]


class _App:
    """One of the door's acts as an ASGI application, which Starlette tells from a function by its being an object."""

    def __init__(self, act: Act) -> None:
        self._act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._act(scope, receive, send)


class _Door:
    def __init__(self, file: Path, tokens: Tokens) -> None:
        self._file, self._tokens = file, tokens

    async def show(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page, or the form."""
        try:
            if b"authorization" in scope["sluice.headers"]:
                caller = authenticate(scope["headers"], "databricks", self._tokens)
            else:
                caller = owner_of(_cookie(scope), self._tokens)
            require_admin(caller, "the dashboard")
        except Unauthenticated as exc:
            await _form(send, exc, "" if not _cookie(scope) else "This token is not known here any more.")
            return
        except PermissionDenied as exc:
            await _form(send, exc, "The dashboard is for admins: this token's owner is not one.")
            return
        try:
            body = await asyncio.to_thread(self._file.read_bytes)
        except OSError:
            await _html(send, 404, NO_PAGE.encode(), [(b"content-type", b"text/plain; charset=utf-8")])
            return
        await _html(send, 200, body)

    async def login(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the form's token into the cookie, where it is an admin's."""
        form = parse_qs((await read_body(receive, MAX_FORM_BYTES)).decode("utf-8", "replace"))
        token = form.get("token", [""])[0].strip()
        try:
            require_admin(owner_of(token.encode(), self._tokens), "the dashboard")
        except Unauthenticated as exc:
            await _form(send, exc, "This is not one of this gateway's access tokens.")
        except PermissionDenied as exc:
            await _form(send, exc, "The dashboard is for admins: this token's owner is not one.")
        else:
            await _html(send, 303, b"", [(b"location", PAGE.encode()), _set_cookie(scope, token, COOKIE_S)])

    async def logout(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the cookie away."""
        await _html(send, 303, b"", [(b"location", PAGE.encode()), _set_cookie(scope, "", 0)])


def _cookie(scope: Scope) -> bytes:
    """The token in the browser's cookie, empty where there is none."""
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(scope["sluice.headers"].get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return b""
    found = cookies.get(COOKIE)
    return found.value.encode("latin-1", "replace") if found else b""


def _set_cookie(scope: Scope, token: str, seconds: int) -> Header:
    cookie: SimpleCookie = SimpleCookie()
    cookie[COOKIE] = token
    cookie[COOKIE].update({"path": PAGE, "max-age": seconds, "httponly": True, "samesite": "Strict", "secure": scope["scheme"] == "https"})
    return b"set-cookie", cookie[COOKIE].OutputString().encode("latin-1", "replace")


async def _form(send: Send, exc: SluiceError, message: str) -> None:
    await _html(send, exc.status_code, FORM.replace("MESSAGE", message).encode())


async def _html(send: Send, status_code: int, body: bytes, headers: list[Header] | None = None) -> None:
    given = headers or []
    if not any(name == b"content-type" for name, _ in given):
        given = [(b"content-type", b"text/html; charset=utf-8"), *given]
    given = sorted(given, key=lambda header: header[0] != b"content-type")
    await respond(send, status_code, body, str(uuid_utils.uuid7()), [*given, *SAFE])
