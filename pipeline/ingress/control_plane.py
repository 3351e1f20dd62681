"""The serving-endpoints API and the tokens API: HTTP calls in, commands out, and views of what stands.

Reading answers from what this process follows; changing goes through gateway.commands to the one writer, and returns when this
process' own followers have seen the change, so that the caller's next request is treated by it. The rules of a change are
core/commands.py's; who may make one is decided before a handler here runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.commands_client import exchange, new_command, new_token
from pipeline.core.commands import Operation, endpoint_view, token_view
from pipeline.endpoints import Endpoint, Token
from pipeline.errors import InvalidParameter, NotFound, Unavailable
from pipeline.ingress.health import Health
from pipeline.ingress.metrics import Metrics
from pipeline.ingress.replies import Waiting
from pipeline.kafka.follower import Follower
from pipeline.kafka.lasting_producer import LastingProducer
from pipeline.settings import Settings

SEEN_TIMEOUT_S = 10.0
TOKEN_FIELDS = {"user", "groups", "admin"}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call, its caller known and its body parsed (empty where the method has none)."""

    caller: Token
    path: dict[str, str]
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """The endpoint that the path names."""
        return self.path["name"]


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The handlers, one for each call of the API."""

    settings: Settings
    producer: LastingProducer
    waiting: Waiting
    endpoints: Follower[Endpoint]
    tokens: Follower[Token]
    health: Health
    metrics: Metrics
    missing_secret: Callable[[str], bool]

    async def create_endpoint(self, call: Call) -> dict[str, Any]:
        """POST /api/2.0/serving-endpoints."""
        name = call.body.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidParameter("name: is missing; an endpoint needs a name of letters, digits, '_', '.' and '-'")
        body = {**call.body, "config": _without_name(call.body.get("config"), name)}
        return await self._change("create_endpoint", name, body, call.caller)

    async def list_endpoints(self, call: Call) -> dict[str, Any]:
        """GET /api/2.0/serving-endpoints."""
        return {"endpoints": [endpoint_view(endpoint, self.missing_secret) for endpoint in self.endpoints.all()]}

    async def show_endpoint(self, call: Call) -> dict[str, Any]:
        """GET .../{name}."""
        return endpoint_view(self._known(call.name), self.missing_secret)

    async def update_config(self, call: Call) -> dict[str, Any]:
        """PUT .../{name}/config."""
        return await self._change("update_config", call.name, _without_name(call.body, call.name), call.caller)

    async def put_ai_gateway(self, call: Call) -> dict[str, Any]:
        """PUT .../{name}/ai-gateway."""
        return await self._change("put_ai_gateway", call.name, call.body, call.caller)

    async def patch_tags(self, call: Call) -> dict[str, Any]:
        """PATCH .../{name}/tags."""
        return await self._change("patch_tags", call.name, call.body, call.caller)

    async def delete_endpoint(self, call: Call) -> dict[str, Any]:
        """DELETE .../{name}."""
        payload = {"existed": self.endpoints.get(call.name) is not None}
        revision = (await self._command("delete_endpoint", call.name, payload, call.caller))["revision"]

        def gone() -> bool:
            endpoint = self.endpoints.get(call.name)
            return endpoint is None or endpoint.revision > revision

        await self._seen(gone() or await self.endpoints.wait_until(gone, SEEN_TIMEOUT_S))
        return {}

    async def put_rate_limits(self, call: Call) -> dict[str, Any]:
        """PUT .../{name}/rate-limits, which Databricks has deprecated and which would reset nothing else of the AI Gateway."""
        raise InvalidParameter("PUT .../rate-limits is the deprecated form; send rate_limits to PUT .../ai-gateway (put_ai_gateway)")

    async def list_models(self, call: Call) -> dict[str, Any]:
        """GET models, as OpenAI's clients read it."""
        models = [
            {"id": e.name, "object": "model", "created": e.creation_timestamp // 1000, "owned_by": e.creator}
            for e in self.endpoints.all()
        ]  # fmt: skip
        return {"object": "list", "data": models}

    async def create_token(self, call: Call) -> dict[str, Any]:
        """POST /api/2.0/sluice/tokens; the only answer that ever holds the token."""
        unknown = sorted(set(call.body) - TOKEN_FIELDS)
        if unknown:
            raise InvalidParameter(f"{unknown[0]}: is not a field of a token; send user, groups and admin")
        user, groups, admin = call.body.get("user"), call.body.get("groups") or [], call.body.get("admin") or False
        if not isinstance(user, str) or not isinstance(groups, list) or not isinstance(admin, bool):
            raise InvalidParameter(
                'a token needs {"user": "alice@example.com", "groups": ["GROUP"], "admin": false}; the last two may be left out'
            )
        token, command = new_token(user, groups, admin, call.caller.user, self.settings.reply_partition)
        self.health.require_workers()
        answer = await exchange(self.producer, self.waiting, command)
        await self._seen(await self.tokens.wait_for_revision(command.key, answer.pop("revision"), SEEN_TIMEOUT_S))
        return {**answer, "token": token}

    async def list_tokens(self, call: Call) -> dict[str, Any]:
        """GET /api/2.0/sluice/tokens."""
        return {"tokens": [token_view(token) for token in self.tokens.all()]}

    async def revoke_token(self, call: Call) -> dict[str, Any]:
        """DELETE .../tokens/{id}."""
        token_id = call.path["token_id"]
        key = next((key for key, token in self.tokens.items() if token.token_id == token_id), None)
        if key is None:
            raise NotFound(f"there is no token '{token_id}'; GET /api/2.0/sluice/tokens lists those that there are")
        await self._command("revoke_token", key, {"existed": True}, call.caller)
        await self._seen(self.tokens.get(key) is None or await self.tokens.wait_until(lambda: self.tokens.get(key) is None, SEEN_TIMEOUT_S))
        return {}

    def metrics_of(self, name: str) -> bytes:
        """GET .../{name}/metrics, as Prometheus text."""
        return self.metrics.text_of(self._known(name).name)

    def _known(self, name: str) -> Endpoint:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            raise NotFound(f"endpoint '{name[:100]}' does not exist; GET /api/2.0/serving-endpoints lists those that do")
        return endpoint

    async def _change(self, op: Operation, name: str, payload: dict[str, Any], caller: Token) -> dict[str, Any]:
        """A change that leaves an endpoint standing; its answer, with the state of the secrets as this process sees it."""
        answer = await self._command(op, name, payload, caller)
        revision = answer.pop("revision")
        await self._seen(await self.endpoints.wait_for_revision(name, revision, SEEN_TIMEOUT_S))
        endpoint = self.endpoints.get(name, revision)
        if endpoint is not None and op in ("create_endpoint", "update_config"):
            return endpoint_view(endpoint, self.missing_secret)
        return answer

    async def _command(self, op: Operation, key: str, payload: dict[str, Any], caller: Token) -> dict[str, Any]:
        command = new_command(op, key, payload, caller.user, self.settings.reply_partition)
        self.health.require_workers()
        return await exchange(self.producer, self.waiting, command)

    async def _seen(self, reached: bool) -> None:
        if not reached:
            raise Unavailable(f"the change is made, but this ingress has not seen it within {SEEN_TIMEOUT_S:g} s; read it before you go on")


def _without_name(config: Any, name: str) -> Any:
    """A configuration without the endpoint's name, which versions of Databricks' SDK repeat in it."""
    if not isinstance(config, dict) or "name" not in config:
        return config
    if config["name"] != name:
        raise InvalidParameter(f"config.name: does not name the endpoint '{name}'; leave it out")
    return {field: value for field, value in config.items() if field != "name"}
