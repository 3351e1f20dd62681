"""Errors take the form of their path, and what providers say cannot break a header."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import RateLimited
from pipeline.ingress import answers


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/api/2.0/serving-endpoints", "databricks"),
        ("/serving-endpoints/chat/invocations", "databricks"),
        ("/serving-endpoints/chat/completions", "databricks"),
        ("/v1/chat/completions", "openai"),
        ("/v1/models", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/serving-endpoints/anthropic/v1/messages", "anthropic"),
        ("/nowhere", "databricks"),
    ],
)
def test_the_path_decides_the_form(path: str, form: str) -> None:
    assert answers.form_of(path) == form


def test_each_form_carries_code_and_message() -> None:
    for form in ("databricks", "openai", "anthropic"):
        body = json.loads(answers.error_body(form, 404, "RESOURCE_DOES_NOT_EXIST", "endpoint 'x' does not exist"))  # type: ignore[arg-type]
        assert "endpoint 'x' does not exist" in json.dumps(body)
    openai = json.loads(answers.error_body("openai", 404, "RESOURCE_DOES_NOT_EXIST", "no"))
    assert openai == {"error": {"message": "no", "type": "not_found_error", "param": None, "code": "RESOURCE_DOES_NOT_EXIST"}}
    assert json.loads(answers.error_body("databricks", 404, "X", "no")) == {"error_code": "X", "message": "no"}


def test_an_answer_tells_who_served_it_and_what_is_left() -> None:
    headers = dict(
        answers.answer_headers(
            {"status_code": 200, "served_model": "gpt-4o", "attempts": 2, "rate_limit": {"limit": 100, "remaining": 0, "reset_s": 17}}
        )
    )
    assert headers == {
        b"served-model-name": b"gpt-4o",
        b"x-sluice-attempts": b"2",
        b"x-ratelimit-limit-requests": b"100",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"17",
    }


@pytest.mark.parametrize(
    ("status", "given", "header"), [(429, 12, b"12"), (429, None, b"1"), (503, 0, b"1"), (502, 5, None), (200, 5, None)]
)
def test_retry_after_stands_on_429_and_503_in_whole_seconds(status: int, given: int | None, header: bytes | None) -> None:
    assert dict(answers.retry_after(status, given)).get(b"retry-after") == header


def test_a_providers_text_cannot_smuggle_a_line_into_the_headers() -> None:
    assert answers.header_text("gpt\r\nset-cookie: a=b") == b"gpt??set-cookie: a=b"
    assert answers.header_text("modèle-\u2603") == b"mod?le-?"
    assert len(answers.header_text("x" * 10_000)) == 256


async def test_an_error_is_sent_whole_with_its_request_id() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: object) -> None:
        sent.append(dict(message))  # type: ignore[call-overload]

    await answers.respond_error(send, "openai", RateLimited("100 calls per minute", retry_after_s=9), "id-1")
    headers = dict(sent[0]["headers"])  # type: ignore[call-overload]
    assert sent[0]["status"] == 429
    assert (headers[b"retry-after"], headers[b"x-request-id"], headers[b"content-type"]) == (b"9", b"id-1", b"application/json")
    assert headers[b"content-length"] == str(len(sent[1]["body"])).encode()  # type: ignore[arg-type]
