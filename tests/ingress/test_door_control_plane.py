"""The serving-endpoints API and the tokens API through the real HTTP door, good and bad."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.stack]

API = "/api/2.0/serving-endpoints"
TOKENS = "/api/2.0/sluice/tokens"
GOOD = {"messages": [{"role": "user", "content": "hello"}]}
TABLE = {"catalog_name": "door", "schema_name": "control", "table_name_prefix": "plane", "enabled": True}


@pytest.fixture(scope="module")
def admin(stack: Any) -> Iterator[httpx.Client]:
    """A client with an admin's token, and an endpoint that stands all the time."""
    stack.create_endpoint("door-standing")
    with stack.http() as client:
        yield client


@pytest.fixture(autouse=True)
def next_request_is_served(admin: httpx.Client) -> Iterator[None]:
    """Whatever a test did, an endpoint that stood before goes on answering."""
    yield
    answer = admin.post("/serving-endpoints/door-standing/invocations", json=GOOD)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def body(stack: Any) -> dict[str, Any]:
    """A good body for creating `door-new`."""
    return {"name": "door-new", "config": {"served_entities": [stack.entity(name="gpt")]}}


@pytest.fixture
def new(admin: httpx.Client, body: dict[str, Any]) -> Iterator[str]:
    """An endpoint of the test's own."""
    assert admin.post(API, json=body).status_code == 200
    yield "door-new"
    admin.delete(f"{API}/door-new")


def refusal(answer: httpx.Response, status: int, error_code: str) -> str:
    """Checks status and code; returns the message."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.json()["error_code"] == error_code
    return str(answer.json()["message"])


def edited(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `body` with the field at the dotted path set."""
    result: Any = copy.deepcopy(body)
    place = result
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    place[last] = value
    return dict(result)


MODEL = "config.served_entities.0.external_model"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("name", "a/b", "name"),
        ("name", "", "name"),
        ("name", 5, "name"),
        ("config", {}, "served_entities"),
        ("config.name", "door-other", "config.name"),
        ("config.served_entities", [], "served_entities"),
        (f"{MODEL}.provider", "cohere", "cohere"),
        (f"{MODEL}.task", "llm/v1/paint", "llm/v1/paint"),
        (f"{MODEL}.frobnicate", 1, "frobnicate"),
        (f"{MODEL}.openai_config", {"openai_api_key_plaintext": "sk-secret-1"}, "{{secrets/SCOPE/KEY}}"),
        (f"{MODEL}.openai_config", {"openai_api_key": "sk-secret-1"}, "{{secrets/SCOPE/KEY}}"),
        (f"{MODEL}.openai_config", {"openai_api_key": "{{secrets/a/b}}", "openai_api_base": "ftp://x"}, "openai_api_base"),
        ("ai_gateway.rate_limits", [{"calls": -1, "renewal_period": "minute"}], "calls"),
        ("ai_gateway.rate_limits", [{"calls": 1, "renewal_period": "week"}], "renewal_period"),
        ("ai_gateway.rate_limits", [{"calls": 1, "renewal_period": "minute", "key": "moon"}], "key"),
        ("ai_gateway.inference_table_config", {**TABLE, "catalog_name": ""}, "catalog_name"),
        ("ai_gateway.inference_table_config", {**TABLE, "catalog_name": "../up"}, "catalog_name"),
        ("ai_gateway.inference_table_config", {**TABLE, "schema_name": "a/b"}, "schema_name"),
        ("ai_gateway.inference_table_config", {"enabled": True}, "catalog_name"),
        ("ai_gateway.guardrails", {"input": {"pii": {"behavior": "SHOUT"}}}, "behavior"),
        ("tags", [{"value": "no key"}], "key"),
        ("tags", [{"key": "a"}, {"key": "a"}], "stands twice"),
        ("config.traffic_config", {"routes": [{"served_entity_name": "gpt", "traffic_percentage": 40}]}, "100"),
        ("config.traffic_config", {"routes": [{"served_entity_name": "who", "traffic_percentage": 100}]}, "who"),
    ],
)
def test_a_bad_configuration_is_400_names_the_field_and_changes_nothing(
    admin: httpx.Client, body: dict[str, Any], path: str, value: Any, said: str
) -> None:
    message = refusal(admin.post(API, json=edited(body, path, value)), 400, "INVALID_PARAMETER_VALUE")
    assert said in message
    assert "sk-secret-1" not in message
    assert admin.get(f"{API}/door-new").status_code == 404


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": "a", "name": "b"}', b'{"name": NaN}'])
def test_a_configuration_that_is_no_json_object_is_400(admin: httpx.Client, content: bytes) -> None:
    refusal(admin.post(API, content=content, headers={"content-type": "application/json"}), 400, "INVALID_PARAMETER_VALUE")


def test_an_endpoint_is_created_shown_listed_changed_and_deleted(admin: httpx.Client, body: dict[str, Any]) -> None:
    body |= {"tags": [{"key": "team", "value": "search"}], "ai_gateway": {"inference_table_config": TABLE}}
    made = admin.post(API, json=body).json()
    assert made["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    shown = admin.get(f"{API}/door-new").json()
    assert shown == made
    assert "door.control.plane_request_response" in shown["notes"][0]
    assert "door-new" in [e["name"] for e in admin.get(API).json()["endpoints"]]
    assert "door-new" in [m["id"] for m in admin.get("/v1/models").json()["data"]]
    gateway = admin.put(f"{API}/door-new/ai-gateway", json={"usage_tracking_config": {"enabled": True}}).json()
    assert gateway == {"inference_table_config": TABLE, "usage_tracking_config": {"enabled": True}}
    tags = admin.patch(f"{API}/door-new/tags", json={"add_tags": [{"key": "new", "value": "x"}], "delete_tags": ["team", "absent"]}).json()
    assert tags == {"tags": [{"key": "new", "value": "x"}]}
    config = admin.put(f"{API}/door-new/config", json=body["config"]).json()
    assert (config["config"]["config_version"], config["id"], config["tags"]) == (4, made["id"], tags["tags"])
    assert admin.delete(f"{API}/door-new").json() == {}
    refusal(admin.get(f"{API}/door-new"), 404, "RESOURCE_DOES_NOT_EXIST")
    refusal(admin.post("/serving-endpoints/door-new/invocations", json=GOOD), 404, "RESOURCE_DOES_NOT_EXIST")


def test_creating_what_exists_is_409_and_changing_or_deleting_what_does_not_is_404(
    admin: httpx.Client, body: dict[str, Any], new: str
) -> None:
    assert new in refusal(admin.post(API, json=body), 409, "RESOURCE_ALREADY_EXISTS")
    for method, path, sent in (
        ("GET", "", None), ("DELETE", "", None), ("PUT", "/config", body["config"]), ("PUT", "/ai-gateway", {}), ("PATCH", "/tags", {}),
        ("GET", "/metrics", None),
    ):  # fmt: skip
        message = refusal(admin.request(method, f"{API}/door-nobody{path}", json=sent), 404, "RESOURCE_DOES_NOT_EXIST")
        assert "door-nobody" in message


def test_a_change_holds_for_the_very_next_request(admin: httpx.Client, new: str) -> None:
    for round_number in range(5):
        admin.put(f"{API}/{new}/ai-gateway", json={"rate_limits": [{"calls": 0, "renewal_period": "day"}]})
        assert admin.post(f"/serving-endpoints/{new}/invocations", json=GOOD).status_code == 429, round_number
        admin.put(f"{API}/{new}/ai-gateway", json={"rate_limits": []})
        assert admin.post(f"/serving-endpoints/{new}/invocations", json=GOOD).status_code == 200, round_number


def test_a_secret_that_is_missing_is_no_error_but_the_state_says_so(admin: httpx.Client, body: dict[str, Any]) -> None:
    made = admin.post(API, json=edited(body, f"{MODEL}.openai_config.openai_api_key", "{{secrets/nowhere/to-be-found}}")).json()
    try:
        assert "{{secrets/nowhere/to-be-found}}" in made["config"]["served_entities"][0]["state"]["deployment_state_message"]
        answer = admin.post("/serving-endpoints/door-new/invocations", json=GOOD)
        assert answer.status_code == 502
        assert "nowhere" in answer.json()["message"]
    finally:
        admin.delete(f"{API}/door-new")


def test_the_deprecated_rate_limits_call_says_what_to_use(admin: httpx.Client) -> None:
    assert "ai-gateway" in refusal(admin.put(f"{API}/door-standing/rate-limits", json={}), 400, "INVALID_PARAMETER_VALUE")


def test_only_admins_change_things_and_anybody_with_a_token_reads(stack: Any, body: dict[str, Any]) -> None:
    with stack.http(stack.token("alice@example.com")) as alice:
        for method, path in (
            ("POST", API), ("DELETE", f"{API}/door-standing"), ("PUT", f"{API}/door-standing/config"),
            ("PUT", f"{API}/door-standing/ai-gateway"), ("PATCH", f"{API}/door-standing/tags"), ("POST", TOKENS), ("GET", TOKENS),
            ("DELETE", f"{TOKENS}/x"),
        ):  # fmt: skip
            message = refusal(alice.request(method, path, json=body), 403, "PERMISSION_DENIED")
            assert "alice@example.com" in message
        assert alice.get(API).status_code == alice.get(f"{API}/door-standing").status_code == alice.get("/v1/models").status_code == 200


def test_a_token_works_from_its_answer_on_is_listed_without_itself_and_ends_when_revoked(stack: Any, admin: httpx.Client) -> None:
    made = admin.post(TOKENS, json={"user": "carol@example.com", "groups": ["search"]}).json()
    assert (made["user"], made["groups"], made["admin"]) == ("carol@example.com", ["search"], False)
    with stack.http(made["token"]) as carol:
        assert carol.post("/serving-endpoints/door-standing/invocations", json=GOOD).status_code == 200
        listed = admin.get(TOKENS)
        assert made["token_id"] in [t["token_id"] for t in listed.json()["tokens"]]
        assert made["token"] not in listed.text
        assert admin.delete(f"{TOKENS}/{made['token_id']}").status_code == 200
        refusal(carol.post("/serving-endpoints/door-standing/invocations", json=GOOD), 401, "UNAUTHENTICATED")
    refusal(admin.delete(f"{TOKENS}/{made['token_id']}"), 404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    "sent", [{}, {"user": ""}, {"user": 5}, {"user": "a", "groups": "x"}, {"user": "a", "admin": "yes"}, {"user": "a", "x": 1}]
)
def test_a_bad_token_request_is_400(admin: httpx.Client, sent: dict[str, Any]) -> None:
    refusal(admin.post(TOKENS, json=sent), 400, "INVALID_PARAMETER_VALUE")
