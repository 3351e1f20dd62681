"""Bad requests through the real HTTP door: a clear error, nothing lost, and the next request is served."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

pytestmark = [pytest.mark.stack]

NAME = "door-bodies"
PATH = f"/serving-endpoints/{NAME}/invocations"
JSON = {"content-type": "application/json"}
GOOD = {"messages": [{"role": "user", "content": "hello"}]}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def door(stack: Any) -> Iterator[httpx.Client]:
    """A client with a user's token; the endpoint stands."""
    stack.create_endpoint(NAME)
    with stack.http(stack.token("alice@example.com")) as client:
        yield client


@pytest.fixture(autouse=True)
def next_request_is_served(door: httpx.Client) -> Iterator[None]:
    """After each bad request a good one, over the same client, must be answered."""
    yield
    answer = door.post(PATH, json=GOOD)
    assert answer.status_code == 200, answer.text


def refusal(answer: httpx.Response, status: int, error_code: str) -> str:
    """Checks status, code and request id; returns the message."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body["error_code"] == error_code
    return str(body["message"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b'{"messages": [{"role": "user", "con', "not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "not valid JSON"),
        (b'{"messages": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "not valid JSON"),
        (b'{"messages": [], "messages": [{"role": "user", "content": "hello"}]}', "messages"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "temperature": NaN}', "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "temperature": 1e999}', "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "hello"}]} extra', "not valid JSON"),
        (b"[1, 2]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "messages"),
        (b'{"messages": "hello"}', "messages"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "messages.0.content"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "max_tokens": "ten"}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "stream": "yes"}', "stream: must be true or false"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "stream_options": {}}', "stream_options: is only allowed with stream"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "api_base": "http://169.254.169.254"}', "api_base"),
        (b'{"messages": [{"role": "user", "content": "hello"}], "usage_context": {"a": 1}}', "usage_context"),
    ],
)
def test_a_bad_body_is_400_and_says_why(door: httpx.Client, body: bytes, said: str) -> None:
    assert said in refusal(door.post(PATH, content=body, headers=JSON), 400, "INVALID_PARAMETER_VALUE")


def test_a_body_over_4_mib_is_413_whether_its_length_is_told_or_not(door: httpx.Client) -> None:
    body = b'{"messages": [{"role": "user", "content": "' + b"x" * (4 * MIB) + b'"}]}'
    assert "4194304" in refusal(door.post(PATH, content=body, headers=JSON), 413, "INVALID_PARAMETER_VALUE")
    pieces = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
    assert "4194304" in refusal(door.post(PATH, content=pieces, headers=JSON), 413, "INVALID_PARAMETER_VALUE")


def test_a_body_of_100_mb_is_413(door: httpx.Client) -> None:
    answer = door.post(PATH, content=(b"x" * MIB for _ in range(100)), headers={**JSON, "content-length": str(100 * MIB)})
    refusal(answer, 413, "INVALID_PARAMETER_VALUE")


def test_a_body_just_under_the_limit_is_served(door: httpx.Client) -> None:
    text = "x" * (4 * MIB - 200)
    assert door.post(PATH, json={"messages": [{"role": "user", "content": text}]}).status_code == 200


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-type": ""}, {**JSON, "content-encoding": "gzip"}])
def test_what_is_not_plain_json_is_415(door: httpx.Client, headers: dict[str, str]) -> None:
    refusal(door.post(PATH, content=json.dumps(GOOD).encode(), headers=headers), 415, "INVALID_PARAMETER_VALUE")


def test_a_client_that_leaves_in_the_middle_of_its_body_disturbs_nobody(door: httpx.Client) -> None:
    place = urlsplit(str(door.base_url))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {door.headers['authorization']}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=10) as connection:
        connection.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"messages": ['.encode())


def test_what_is_no_http_is_refused(door: httpx.Client) -> None:
    place = urlsplit(str(door.base_url))
    with socket.create_connection((str(place.hostname), place.port or 0), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nothing like it\r\n\r\n")
        assert b"400" in connection.recv(1_000)


def test_an_unknown_endpoint_is_404_by_name_in_the_form_of_its_path(door: httpx.Client) -> None:
    message = refusal(door.post("/serving-endpoints/nobody/invocations", json=GOOD), 404, "RESOURCE_DOES_NOT_EXIST")
    assert "'nobody'" in message
    openai = door.post("/v1/chat/completions", json={**GOOD, "model": "nobody"})
    assert (openai.status_code, openai.json()["error"]["code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    anthropic = door.post("/v1/messages", json={**GOOD, "model": "nobody", "max_tokens": 5})
    assert (anthropic.status_code, anthropic.json()["type"]) == (404, "error")


def test_an_openai_body_without_model_is_400(door: httpx.Client) -> None:
    answer = door.post("/v1/chat/completions", json=GOOD)
    assert answer.status_code == 400
    assert "model" in answer.json()["error"]["message"]


@pytest.mark.parametrize("base", ["/v1", "/serving-endpoints"])
def test_a_path_of_another_task_is_400_and_names_both(door: httpx.Client, base: str) -> None:
    answer = door.post(f"{base}/embeddings", json={"model": NAME, "input": "hello"})
    assert answer.status_code == 400
    assert "llm/v1/chat" in answer.text
    assert "llm/v1/embeddings" in answer.text


def test_paths_that_are_not_there_and_wrong_methods_say_so(door: httpx.Client) -> None:
    assert refusal(door.get("/nowhere"), 404, "RESOURCE_DOES_NOT_EXIST")
    assert "Responses API" in door.post("/v1/responses", json={}).json()["error"]["message"]
    assert "POST" in refusal(door.get(PATH), 405, "INVALID_PARAMETER_VALUE")
    assert door.get("/v1/chat/completions").json()["error"]["code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer unknown"},
        {"authorization": "Basic YTpi"},
        {"x-api-key": "unknown"},
        {"x-forwarded-user": "alice@example.com"},
    ],
)
def test_nobody_gets_in_without_a_token(door: httpx.Client, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=door.base_url, headers=headers, trust_env=False) as stranger:
        refusal(stranger.post(PATH, json=GOOD), 401, "UNAUTHENTICATED")
        refusal(stranger.get("/api/2.0/serving-endpoints"), 401, "UNAUTHENTICATED")
        assert stranger.get("/v1/models").json()["error"]["code"] == "UNAUTHENTICATED"
        assert stranger.post("/v1/messages", json={}).json()["type"] == "error"
        assert stranger.get("/metrics").status_code == 401


def test_two_authorization_headers_are_refused(door: httpx.Client) -> None:
    given = door.headers["authorization"]
    with httpx.Client(base_url=door.base_url, trust_env=False) as client:
        answer = client.post(PATH, json=GOOD, headers=[("authorization", given), ("authorization", given)])
    refusal(answer, 401, "UNAUTHENTICATED")


def test_what_needs_no_token(door: httpx.Client) -> None:
    with httpx.Client(base_url=door.base_url, trust_env=False) as stranger:
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/readyz").json() == {"status": "ready"}
        assert stranger.get("/.well-known/databricks-config").json() == {"oidc_endpoint": "", "workspace_id": "0"}
        assert stranger.get("/.well-known/other").status_code == 404


def test_metrics_count_answers_of_the_endpoint_and_refusals(door: httpx.Client) -> None:
    door.post(PATH, json=GOOD)
    door.post(PATH, content=b"{", headers=JSON)
    everything = door.get("/metrics").text
    assert 'sluice_ingress_refused_total{error_code="INVALID_PARAMETER_VALUE",status="400"}' in everything
    of_endpoint = door.get(f"/api/2.0/serving-endpoints/{NAME}/metrics").text
    assert f'sluice_requests_total{{endpoint="{NAME}",status="200"}}' in of_endpoint
    assert "refused" not in of_endpoint
