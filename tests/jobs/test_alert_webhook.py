"""Telling a webhook, a real one on loopback: what counts as received, and that no failure says what is secret."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import alert_webhook
from jobs.alert_rules import Webhook
from jobs.alert_webhook import WebhookClient
from pipeline.settings import Settings
from tests.jobs.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookClient]:
    # Nobody's proxy gets anything.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    made = WebhookClient(Settings(secrets=tmp_path))
    yield made
    made.close()


def test_secrets_are_filled_in_at_every_call(
    receiver: Receiver, client: WebhookClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_SECRET_ALERTS_URL", receiver.url)
    (tmp_path / "alerts").mkdir()
    told = Webhook(url="{{secrets/alerts/url}}", headers={"authorization": "Bearer {{secrets/alerts/token}}", "x-from": "a b"})
    for token in ("first", "second"):
        (tmp_path / "alerts" / "token").write_text(token + "\n")
        assert client.post(told, {"id": "1"}) is None
    assert [h["authorization"] for h in receiver.headers] == ["Bearer first", "Bearer second"]
    assert receiver.got == [{"id": "1"}] * 2 and receiver.headers[0]["x-from"] == "a b"
    assert receiver.headers[0]["content-type"] == "application/json"


@pytest.mark.parametrize("status", [302, 404, 410, 429, 500])
def test_only_2xx_is_received_and_no_redirect_is_followed(receiver: Receiver, client: WebhookClient, status: int) -> None:
    receiver.status, receiver.answer_headers = status, {"location": receiver.url} if status == 302 else {}
    problem = client.post(Webhook(url=receiver.url), {"id": "1"})
    assert problem and f"status {status}" in problem and ("redirects are not followed" in problem) == (status == 302)
    assert receiver.refused == 1


def test_what_goes_wrong_is_said_without_address_or_key(client: WebhookClient, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Receiver()
    problem = client.post(Webhook(url=away.url), {"id": "1"})
    assert problem and problem.startswith("no connection") and "hidden-path" not in problem
    problem = client.post(Webhook(url="{{secrets/alerts/url}}"), {"id": "1"})
    assert problem and "SLUICE_SECRET_ALERTS_URL" in problem
    for address in ("hidden-path", "http://127.0.0.1:hidden-path", "ftp://hidden-path"):
        monkeypatch.setenv("SLUICE_SECRET_ALERTS_URL", address)
        problem = client.post(Webhook(url="{{secrets/alerts/url}}"), {"id": "1"})
        assert problem and problem.startswith("no answer") and "hidden-path" not in problem


def test_a_webhook_that_says_nothing_is_given_up_and_one_that_says_too_much_is_not_listened_to(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_webhook, "TIMEOUT_S", 0.2)
    client = WebhookClient(Settings(secrets=tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        problem = client.post(Webhook(url=f"http://127.0.0.1:{silent.getsockname()[1]}/hidden-path"), {"id": "1"})
    assert problem == "no answer (ReadTimeout)"
    receiver.answer_headers, receiver.body = {"content-length": str(1 << 40)}, b"x" * 1000
    assert client.post(Webhook(url=receiver.url), {"id": "1"}) is None
    client.close()
