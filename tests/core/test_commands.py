"""The rules of the control plane: what each command writes and answers, and that a command may come twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.commands import Command, Outcome, apply, endpoint_view
from pipeline.endpoints import Endpoint, Token

HASH = "ab" * 32
CONFIG = {
    "served_entities": [
        {
            "name": "gpt",
            "external_model": {
                "name": "gpt-4o",
                "provider": "openai",
                "task": "llm/v1/chat",
                "openai_config": {"openai_api_key": "{{secrets/llm-keys/openai-key}}"},
            },
        }
    ]
}


def limits(calls: int, period: str) -> dict[str, Any]:
    return {"rate_limits": [{"calls": calls, "renewal_period": period}]}


LOGGING = {"catalog_name": "main", "schema_name": "llm", "table_name_prefix": "logs", "enabled": True}


class Installation:
    """What stands on the two topics, changed by applying commands with growing revisions."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.tokens: dict[str, Token] = {}
        self.revision = 0

    def apply(self, command: Command, *, revision: int | None = None, crash: bool = False) -> Outcome:
        """`crash`: the outcome is lost, as when the worker dies before it writes."""
        if revision is None:
            self.revision += 1
            revision = self.revision
        outcome = apply(
            command, self.endpoints.get(command.key), self.tokens.get(command.key), revision=revision, now_ms=1_790_000_000_000 + revision
        )
        if outcome.topic and not crash:
            kept: dict[str, Any] = self.endpoints if outcome.topic == "gateway.endpoints" else self.tokens
            model = Endpoint if outcome.topic == "gateway.endpoints" else Token
            if outcome.value is None:
                kept.pop(outcome.key, None)
            else:
                kept[outcome.key] = model.model_validate_json(outcome.value)
        return outcome

    def do(self, op: str, key: str = "chat", command_id: str = "", **payload: Any) -> Outcome:
        return self.apply(command(op, key, command_id or f"c{self.revision + 1}", **payload))


def command(op: str, key: str = "chat", command_id: str = "c1", **payload: Any) -> Command:
    return Command(command_id=command_id, op=op, key=key, payload=payload, user="root@example.com")  # type: ignore[arg-type]


def created(**more: Any) -> Installation:
    installation = Installation()
    outcome = installation.do("create_endpoint", name="chat", config=CONFIG, **more)
    assert outcome.status_code == 200, outcome.body
    return installation


def test_a_created_endpoint_is_ready_at_once_and_answers_as_the_sdk_reads_it() -> None:
    outcome = Installation().do("create_endpoint", name="chat", config=CONFIG, tags=[{"key": "team", "value": "search"}])
    body = outcome.body
    assert (outcome.topic, outcome.key, outcome.status_code) == ("gateway.endpoints", "chat", 200)
    assert body["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    assert body["config"]["config_version"] == 1
    assert body["config"]["traffic_config"]["routes"] == [
        {"served_entity_name": "gpt", "served_model_name": "gpt", "traffic_percentage": 100}
    ]
    assert body["tags"] == [{"key": "team", "value": "search"}]
    assert (body["creator"], body["revision"]) == ("root@example.com", 1)


def test_creating_an_endpoint_that_exists_is_409_and_writes_nothing() -> None:
    outcome = created().do("create_endpoint", name="chat", config=CONFIG)
    assert (outcome.topic, outcome.status_code, outcome.body["error_code"]) == (None, 409, "RESOURCE_ALREADY_EXISTS")
    assert "chat" in outcome.body["message"]


@pytest.mark.parametrize(
    ("op", "payload"), [("update_config", CONFIG), ("put_ai_gateway", {}), ("patch_tags", {}), ("delete_endpoint", {})]
)
def test_changing_an_endpoint_that_is_not_there_is_404(op: str, payload: dict[str, Any]) -> None:
    outcome = Installation().do(op, "nobody", **payload)
    assert (outcome.topic, outcome.status_code, outcome.body["error_code"]) == (None, 404, "RESOURCE_DOES_NOT_EXIST")
    assert "nobody" in outcome.body["message"]


def test_put_ai_gateway_replaces_the_sections_that_are_sent_and_keeps_the_others() -> None:
    installation = created(
        ai_gateway={"rate_limits": [{"calls": 5, "renewal_period": "second"}], "guardrails": {"input": {"invalid_keywords": ["secret"]}}}
    )
    outcome = installation.do("put_ai_gateway", inference_table_config=LOGGING, rate_limits=[])
    assert outcome.body["inference_table_config"] == LOGGING
    assert outcome.body["rate_limits"] == []
    assert outcome.body["guardrails"]["input"]["invalid_keywords"] == ["secret"]


def test_a_table_prefix_may_change_without_disabling_first() -> None:
    installation = created(ai_gateway={"inference_table_config": LOGGING})
    outcome = installation.do("put_ai_gateway", inference_table_config={**LOGGING, "table_name_prefix": "other"})
    assert outcome.status_code == 200
    assert outcome.body["inference_table_config"]["table_name_prefix"] == "other"


def test_tags_are_added_replaced_and_deleted_and_an_absent_one_is_no_error() -> None:
    installation = created(tags=[{"key": "team", "value": "a"}, {"key": "old", "value": "b"}])
    outcome = installation.do("patch_tags", add_tags=[{"key": "team", "value": "c"}, {"key": "new"}], delete_tags=["old", "never-there"])
    assert outcome.body["tags"] == [{"key": "team", "value": "c"}, {"key": "new", "value": ""}]


def test_the_tags_of_an_endpoint_are_bounded() -> None:
    installation = created(tags=[{"key": f"k{n}"} for n in range(50)])
    assert installation.do("patch_tags", add_tags=[{"key": "one-more"}]).status_code == 400


def test_each_change_counts_the_version_up_and_the_id_stays_until_the_endpoint_is_made_anew() -> None:
    installation = created()
    first = installation.endpoints["chat"]
    installation.do("update_config", **CONFIG)
    installation.do("put_ai_gateway", usage_tracking_config={"enabled": True})
    installation.do("patch_tags", add_tags=[{"key": "a"}])
    changed = installation.endpoints["chat"]
    assert (changed.config_version, changed.revision, changed.endpoint_id) == (4, 4, first.endpoint_id)
    assert changed.creation_timestamp == first.creation_timestamp < changed.last_updated_timestamp
    assert installation.do("delete_endpoint").value is None
    installation.do("create_endpoint", name="chat", config=CONFIG)
    assert installation.endpoints["chat"].endpoint_id != first.endpoint_id
    assert installation.endpoints["chat"].config_version == 1


@pytest.mark.parametrize(
    ("op", "payload", "named"),
    [
        ("create_endpoint", {"name": "other", "config": CONFIG}, "other"),
        ("create_endpoint", {"name": "chat"}, "config"),
        ("create_endpoint", {"name": "chat", "config": CONFIG, "ai_gateway": limits(-1, "minute")}, "calls"),
        ("create_endpoint", {"name": "chat", "config": CONFIG, "ai_gateway": limits(1, "week")}, "week"),
        ("put_ai_gateway", {"inference_table_config": {**LOGGING, "catalog_name": "a/b"}}, "a/b"),
        ("put_ai_gateway", {"inference_table_config": {**LOGGING, "catalog_name": ""}}, "catalog_name"),
        ("patch_tags", {"add_tags": [{"value": "x"}]}, "key"),
        ("create_token", {"token_id": "t", "user": ""}, "user"),
        ("create_token", {"token_id": "t", "user": "alice@example.com", "unknown": 1}, "unknown"),
    ],
)
def test_a_bad_command_answers_400_names_the_field_and_never_raises(op: str, payload: dict[str, Any], named: str) -> None:
    outcome = Installation().do(op, **payload)
    assert (outcome.topic, outcome.status_code, outcome.body["error_code"]) == (None, 400, "INVALID_PARAMETER_VALUE")
    assert named in outcome.body["message"]


def test_a_key_in_clear_text_is_refused_and_not_repeated() -> None:
    model = {
        "name": "gpt-4o",
        "provider": "openai",
        "task": "llm/v1/chat",
        "openai_config": {"openai_api_key_plaintext": "sk-very-secret"},
    }
    config = {"served_entities": [{"external_model": model}]}
    outcome = Installation().do("create_endpoint", name="chat", config=config)
    assert outcome.status_code == 400
    assert "{{secrets/SCOPE/KEY}}" in outcome.body["message"]
    assert "sk-very-secret" not in outcome.body["message"]


@pytest.mark.parametrize(
    ("op", "payload"),
    [
        ("create_endpoint", {"name": "chat", "config": CONFIG}),
        ("update_config", CONFIG),
        ("put_ai_gateway", {"usage_tracking_config": {"enabled": True}}),
        ("patch_tags", {"add_tags": [{"key": "a", "value": "b"}]}),
        ("delete_endpoint", {"existed": True}),
    ],
)
def test_a_command_applied_again_answers_and_writes_as_the_first_time(op: str, payload: dict[str, Any]) -> None:
    installation = Installation() if op == "create_endpoint" else created()
    change = command(op, "chat", "again", **payload)
    first = installation.apply(change, revision=7)
    stood = dict(installation.endpoints)
    assert installation.apply(change, revision=7) == first
    assert first.status_code == 200
    assert installation.endpoints == stood


def test_a_command_that_a_later_change_has_overtaken_writes_nothing() -> None:
    installation = created()
    delete = command("delete_endpoint", "chat", "old-delete")
    installation.apply(delete, revision=5)
    installation.apply(command("create_endpoint", "chat", "new-create", name="chat", config=CONFIG), revision=6)
    assert installation.apply(delete, revision=5).topic is None
    assert installation.endpoints["chat"].revision == 6


@given(
    st.lists(st.tuples(st.sampled_from(["create_endpoint", "update_config", "patch_tags", "delete_endpoint"]), st.booleans()), max_size=12)
)
def test_crashes_between_writing_and_committing_change_nothing(steps: list[tuple[str, bool]]) -> None:
    payloads: dict[str, dict[str, Any]] = {
        "create_endpoint": {"name": "chat", "config": CONFIG},
        "update_config": CONFIG,
        "patch_tags": {"add_tags": [{"key": "a"}]},
        "delete_endpoint": {},
    }
    undisturbed, crashing = Installation(), Installation()
    for revision, (op, crash) in enumerate(steps, start=1):
        change = command(op, "chat", f"c{revision}", **payloads[op])
        if op == "delete_endpoint":
            change = change.model_copy(update={"payload": {"existed": "chat" in undisturbed.endpoints}})
        wanted = undisturbed.apply(change, revision=revision)
        got = crashing.apply(change, revision=revision)
        if crash:
            got = crashing.apply(change, revision=revision)
        assert got == wanted
    assert crashing.endpoints == undisturbed.endpoints


def test_a_token_is_kept_under_its_hash_and_shown_without_it() -> None:
    installation = Installation()
    outcome = installation.do("create_token", HASH, token_id="t1", user="alice@example.com", groups=["search"], admin=False)
    assert (outcome.topic, outcome.key, outcome.status_code) == ("gateway.tokens", HASH, 200)
    assert installation.tokens[HASH].groups == ["search"]
    assert outcome.body["user"] == "alice@example.com"
    assert HASH not in str(outcome.body)


def test_a_token_is_revoked_once_and_a_redelivered_command_repeats_its_answer() -> None:
    installation = Installation()
    make = command("create_token", HASH, "t-create", token_id="t1", user="alice@example.com")
    first = installation.apply(make, revision=3)
    assert installation.apply(make, revision=3) == first
    revoke = command("revoke_token", HASH, "t-revoke", existed=True)
    gone = installation.apply(revoke, revision=4)
    assert (gone.value, gone.status_code, installation.tokens) == (None, 200, {})
    assert installation.apply(revoke, revision=4) == gone
    assert installation.do("revoke_token", HASH).status_code == 404


def test_a_token_key_that_is_no_hash_is_refused() -> None:
    outcome = Installation().do("create_token", "sluice-the-token-itself", token_id="t1", user="alice@example.com")
    assert outcome.status_code == 400
    assert "SHA-256" in outcome.body["message"]


def test_the_view_says_what_people_miss() -> None:
    endpoint = created().endpoints["chat"]
    view = endpoint_view(endpoint, missing_secret=lambda reference: True)
    assert "{{secrets/llm-keys/openai-key}}" in view["config"]["served_entities"][0]["state"]["deployment_state_message"]
    assert any("usage tracking is off" in note for note in view["notes"])
    logged = created(ai_gateway={"inference_table_config": LOGGING, "usage_tracking_config": {"enabled": True}}).endpoints["chat"]
    assert endpoint_view(logged)["notes"] == [
        "requests are logged in main.llm.logs_request_response, findings of guardrails in main.llm.logs_assessment"
    ]
