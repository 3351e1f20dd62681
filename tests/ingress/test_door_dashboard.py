"""/dashboard at the real door: for admins only, by header or by logging in, and nothing of it without a token that is good now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.running import Stack

pytestmark = [pytest.mark.stack]

PAGE = "<!doctype html><title>Sluice: dashboard</title><p>the figures"


@pytest.fixture
def browser(stack: Stack) -> Iterator[httpx.Client]:
    """Keeps cookies, sends no token."""
    with httpx.Client(base_url=stack.host, trust_env=False) as client:
        yield client


@pytest.fixture
def page(stack: Stack) -> Iterator[None]:
    """What `sluice dashboard` would have made."""
    file = stack.data / "dashboard" / "index.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(PAGE)
    yield
    file.unlink()


def log_in(browser: httpx.Client, token: str) -> httpx.Response:
    return browser.post("/dashboard/login", data={"token": token})


def made(stack: Stack, user: str, **other: Any) -> dict[str, Any]:
    with stack.http() as admin:
        answer: dict[str, Any] = admin.post("/api/2.0/sluice/tokens", json={"user": user, **other}).json()
        return answer


def test_without_a_token_there_is_a_form_and_nothing_else(browser: httpx.Client, page: None) -> None:
    answer = browser.get("/dashboard")
    assert answer.status_code == 401
    assert 'action="/dashboard/login"' in answer.text
    assert "the figures" not in answer.text


def test_an_admin_sees_the_page_by_header(stack: Stack, page: None) -> None:
    with stack.http() as admin:
        answer = admin.get("/dashboard")
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_an_admin_logs_in_sees_it_and_logs_out(stack: Stack, browser: httpx.Client, page: None) -> None:
    token = made(stack, "carol@example.com", admin=True)["token"]
    answer = log_in(browser, token)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/dashboard" in cookie
    shown = browser.get("/dashboard")
    assert shown.text == PAGE
    assert token not in shown.text
    browser.post("/dashboard/logout")
    assert browser.get("/dashboard").status_code == 401


def test_a_revoked_token_shows_nothing_any_more(stack: Stack, browser: httpx.Client, page: None) -> None:
    token = made(stack, "dave@example.com", admin=True)
    log_in(browser, token["token"])
    assert browser.get("/dashboard").status_code == 200
    with stack.http() as admin:
        assert admin.delete(f"/api/2.0/sluice/tokens/{token['token_id']}").status_code == 200
    answer = browser.get("/dashboard")
    assert answer.status_code == 401
    assert "the figures" not in answer.text


def test_it_is_for_admins(stack: Stack, browser: httpx.Client, page: None) -> None:
    token = stack.token("alice@example.com")
    refused = log_in(browser, token)
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers
    answer = httpx.get(stack.host + "/dashboard", headers={"authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == 403
    assert "the figures" not in answer.text


@pytest.mark.parametrize("token", ["", "wrong", "<script>", "x" * 600, "\x00"])
def test_what_is_no_token_gets_the_form_again(browser: httpx.Client, page: None, token: str) -> None:
    answer = log_in(browser, token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "<script>" not in answer.text
    browser.cookies.set("sluice_token", "wrong", path="/dashboard")
    assert browser.get("/dashboard").status_code == 401


def test_before_there_is_a_page_it_says_how_to_make_one(stack: Stack) -> None:
    with stack.http() as admin:
        answer = admin.get("/dashboard")
    assert answer.status_code == 404
    assert "sluice dashboard" in answer.text
