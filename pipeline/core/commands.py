"""What a change of an endpoint or a token does: the rules of the control plane, as one pure function.

    HTTP call ──> Command on gateway.commands ──> `apply`, one at a time ──> gateway.endpoints / gateway.tokens, and the answer

`apply` takes a command and what stands now, and says what to write and what to answer. It knows no Kafka, no HTTP and no clock,
and it never raises on a bad command: that answers 400. A command may come twice (a worker died before it committed): one that
has been applied answers as the first time and writes the same again, and one that a later change has overtaken writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline import topics
from pipeline.endpoints import AiGateway, Config, CoreConfig, CreateEndpoint, Endpoint, PatchTags, Tag, Token, validated
from pipeline.errors import AlreadyExists, InvalidParameter, NotFound, SluiceError

Operation = Literal[
    "create_endpoint", "update_config", "put_ai_gateway", "patch_tags", "delete_endpoint", "create_token", "revoke_token"
]  # fmt: skip
UserName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
MAX_TAGS = 50


class Command(BaseModel):
    """One change, as the value of a record on `gateway.commands`.

    `key` is the endpoint's name, or the SHA-256 (hex) of the token; `user` is who asks, as the sender has established it.
    The answer goes to `reply_partition` of gateway.responses under the key `command_id`.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    command_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    op: Operation
    key: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    payload: dict[str, Any] = {}
    user: str
    reply_partition: Annotated[int, Field(ge=0, lt=100_000)] = 0

    def encode(self) -> bytes:
        """The record's value."""
        return self.model_dump_json().encode()


class CreateToken(Config):
    """The payload of `create_token`. The token itself is not in it: only its hash travels, as the command's key."""

    token_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    user: UserName
    groups: Annotated[list[UserName], Field(max_length=100)] = []
    admin: bool = False


class Removal(Config):
    """The payload of `delete_endpoint` and `revoke_token`.

    `existed`: the sender has seen what it wants removed. Where it is gone by now, the command has done its work already.
    """

    existed: bool = False


PAYLOADS: dict[str, type[Config]] = {
    "create_endpoint": CreateEndpoint,
    "update_config": CoreConfig,
    "put_ai_gateway": AiGateway,
    "patch_tags": PatchTags,
    "delete_endpoint": Removal,
    "create_token": CreateToken,
    "revoke_token": Removal,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to write (`topic` None: nothing; `value` None: a tombstone) and what to answer.

    The body of a success holds `revision`: a follower that has reached it knows the change.
    """

    topic: str | None
    key: str
    value: bytes | None
    status_code: int
    body: dict[str, Any]


def checked(op: str, payload: dict[str, Any]) -> Config:
    """The payload as its model. Raises InvalidParameter; senders call it first, so that no key in clear text reaches Kafka."""
    return validated(PAYLOADS[op], payload)


def apply(command: Command, endpoint: Endpoint | None, token: Token | None, *, revision: int, now_ms: int) -> Outcome:
    """The outcome of `command` where `endpoint` and `token` stand under its key now (None: there is none).

    `revision` is the number of this change, growing over all commands; `now_ms` (epoch) is when it was asked for.
    """
    try:
        if command.op in ("create_token", "revoke_token"):
            return _token_change(command, token, revision, now_ms)
        return _endpoint_change(command, endpoint, revision, now_ms)
    except SluiceError as exc:
        return Outcome(None, command.key, None, exc.status_code, exc.body())


def _endpoint_change(command: Command, endpoint: Endpoint | None, revision: int, now_ms: int) -> Outcome:
    payload = checked(command.op, command.payload)
    if endpoint is not None and endpoint.command_id == command.command_id:
        return _written(command, endpoint)
    if endpoint is not None and endpoint.revision > revision:
        raise AlreadyExists(f"endpoint '{command.key}' has been changed since this was asked for; read it and ask again")
    if isinstance(payload, CreateEndpoint):
        return _written(command, _created(command, payload, endpoint, revision, now_ms))
    if endpoint is None:
        if isinstance(payload, Removal) and payload.existed:
            return Outcome(topics.ENDPOINTS.name, command.key, None, 200, {"revision": revision})
        raise NotFound(f"endpoint '{command.key}' does not exist; create it with POST /api/2.0/serving-endpoints")
    if isinstance(payload, Removal):
        return Outcome(topics.ENDPOINTS.name, command.key, None, 200, {"revision": revision})
    changes: dict[str, Any]
    if isinstance(payload, CoreConfig):
        changes = {"config": payload}
    elif isinstance(payload, AiGateway):
        sent = {name: getattr(payload, name) for name in payload.model_fields_set}
        changes = {"ai_gateway": endpoint.ai_gateway.model_copy(update=sent)}
    elif isinstance(payload, PatchTags):
        changes = {"tags": _patched(endpoint.tags, payload)}
    else:  # every payload type has its branch above
        raise InvalidParameter(f"{command.op} is not a change of an endpoint")
    changes |= {
        "last_updated_timestamp": now_ms,
        "revision": revision,
        "config_version": endpoint.config_version + 1,
        "command_id": command.command_id,
    }
    return _written(command, endpoint.model_copy(update=changes))


def _created(command: Command, payload: CreateEndpoint, endpoint: Endpoint | None, revision: int, now_ms: int) -> Endpoint:
    if payload.name != command.key:
        raise InvalidParameter(f"the command is for '{command.key}', its body creates '{payload.name}'; both must be the same")
    if endpoint is not None:
        raise AlreadyExists(
            f"endpoint '{payload.name}' exists already; change it with PUT .../config or .../ai-gateway, or delete it first"
        )
    return Endpoint(
        name=payload.name,
        # Made from the command's id, so that the same command makes the same endpoint however often it is applied.
        endpoint_id=hashlib.sha256(command.command_id.encode()).hexdigest()[:32],
        creator=command.user,
        creation_timestamp=now_ms,
        last_updated_timestamp=now_ms,
        revision=revision,
        config_version=1,
        command_id=command.command_id,
        config=payload.config,
        ai_gateway=payload.ai_gateway or AiGateway(),
        tags=payload.tags,
        description=payload.description,
    )


def _patched(tags: list[Tag], patch: PatchTags) -> list[Tag]:
    """Deletions first, so that a tag which is deleted and added in one call has its new value; order is kept."""
    result = {tag.key: tag for tag in tags if tag.key not in set(patch.delete_tags)}
    result |= {tag.key: tag for tag in patch.add_tags}
    if len(result) > MAX_TAGS:
        raise InvalidParameter(f"an endpoint has at most {MAX_TAGS} tags; this would make {len(result)}")
    return list(result.values())


def _written(command: Command, endpoint: Endpoint) -> Outcome:
    """The endpoint onto its topic, and the answer that its kind of call gets."""
    if command.op == "put_ai_gateway":
        body = _dumped(endpoint.ai_gateway)
    elif command.op == "patch_tags":
        body = {"tags": [_dumped(tag) for tag in endpoint.tags]}
    else:
        body = endpoint_view(endpoint)
    value = endpoint.model_dump_json(exclude_none=True).encode()
    return Outcome(topics.ENDPOINTS.name, endpoint.name, value, 200, {**body, "revision": endpoint.revision})


def _token_change(command: Command, token: Token | None, revision: int, now_ms: int) -> Outcome:
    payload = checked(command.op, command.payload)
    if isinstance(payload, CreateToken):
        if len(command.key) != 64 or not set(command.key) <= set("0123456789abcdef"):
            raise InvalidParameter("the key of create_token must be the SHA-256 of the token, in lower-case hex")
        if token is None:
            token = Token(**payload.model_dump(), created_ms=now_ms, revision=revision, command_id=command.command_id)
        elif token.command_id != command.command_id:
            raise AlreadyExists(f"this token is known already, as '{token.token_id}'; make another")
        value = token.model_dump_json().encode()
        return Outcome(topics.TOKENS.name, command.key, value, 200, {**token_view(token), "revision": token.revision})
    if token is None and not (isinstance(payload, Removal) and payload.existed):
        raise NotFound("this token does not exist; GET /api/2.0/sluice/tokens lists those that do")
    return Outcome(topics.TOKENS.name, command.key, None, 200, {"revision": revision})


def _dumped(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)


def token_view(token: Token) -> dict[str, Any]:
    """A token as the API shows it: never the token itself, never its hash."""
    return {
        "token_id": token.token_id,
        "user": token.user,
        "groups": token.groups,
        "admin": token.admin,
        "creation_timestamp": token.created_ms,
    }


def endpoint_view(endpoint: Endpoint, missing_secret: Callable[[str], bool] = lambda _: False) -> dict[str, Any]:
    """An endpoint as the serving-endpoints API shows it (ServingEndpointDetailed), with `notes` on what people tend to miss.

    `missing_secret` says of a secret reference whether it resolves to nothing where this is asked; the entity's state then says so.
    """
    stamps = {"creator": endpoint.creator, "creation_timestamp": endpoint.creation_timestamp}
    entities = []
    for entity in endpoint.config.served_entities:
        model = _dumped(entity.external_model)
        missing = [reference for reference in _secret_references(model) if missing_secret(reference)]
        # Only the workers resolve secrets, and they may see others than the process that asks here: a warning, no failure.
        message = f"secret {missing[0]} is not found here; calls of this entity fail unless the workers have it" if missing else ""
        state = {"deployment": "DEPLOYMENT_READY", "deployment_state_message": message}
        entities.append({"name": entity.label, **stamps, "external_model": model, "state": state})
    ai_gateway = {"usage_tracking_config": {"enabled": endpoint.usage_tracking}, **_dumped(endpoint.ai_gateway)}
    view: dict[str, Any] = {
        "name": endpoint.name,
        "id": endpoint.endpoint_id,
        **stamps,
        "last_updated_timestamp": endpoint.last_updated_timestamp,
        "state": {"ready": "READY", "config_update": "NOT_UPDATING"},
        "permission_level": "CAN_MANAGE",
        "route_optimized": False,
        "endpoint_type": "EXTERNAL_MODEL",
        "task": endpoint.config.task,
        "tags": [_dumped(tag) for tag in endpoint.tags],
        "config": {
            "config_version": endpoint.config_version,
            "served_entities": entities,
            "traffic_config": {"routes": _routes(endpoint)},
        },
        "ai_gateway": ai_gateway,
        "notes": _notes(endpoint),
    }
    if endpoint.description is not None:
        view["description"] = endpoint.description
    return view


def _routes(endpoint: Endpoint) -> list[dict[str, Any]]:
    """The routes in force: without any, the first served entity gets all (contract, part 7)."""
    given = endpoint.config.traffic_config.routes if endpoint.config.traffic_config else []
    shares = {route.target: route.traffic_percentage for route in given} or {endpoint.config.served_entities[0].label: 100}
    return [{"served_entity_name": name, "served_model_name": name, "traffic_percentage": share} for name, share in shares.items()]


def _secret_references(value: Any) -> list[str]:
    """Every secret reference in an external model's JSON."""
    if isinstance(value, dict):
        return [reference for inner in value.values() for reference in _secret_references(inner)]
    return [value] if isinstance(value, str) and value.startswith("{{secrets/") else []


def _notes(endpoint: Endpoint) -> list[str]:
    """What the specification's "common issues" come from, said where the configuration is read."""
    notes = []
    table = endpoint.ai_gateway.inference_table_config
    if table and table.enabled:
        place = f"{table.catalog_name}.{table.schema_name}.{table.table_name_prefix}"
        notes.append(f"requests are logged in {place}_request_response, findings of guardrails in {place}_assessment")
    else:
        notes.append("no inference table: set inference_table_config with enabled=true to log requests and responses")
    if not endpoint.usage_tracking:
        notes.append(
            "usage tracking is off: requests do not show in system.serving.endpoint_usage; set usage_tracking_config with enabled=true"
        )
    return notes
