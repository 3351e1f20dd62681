"""The ingress as one ASGI application: every path, and the gate that each request passes first.

    request ──> Gate: whose token is it? ──> route ──> Query (models), Handler (control plane), or a plain page
                  └── every error, from wherever, becomes an answer in the form of its path

There is no middleware: on the way of a request to a model stand the gate, Starlette's router and the Query, nothing else.
An unexpected failure answers 500 without details and is logged with its stack, never with a body.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import uuid_utils
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from pipeline import json_text
from pipeline.errors import NotFound, SluiceError
from pipeline.ingress import answers, dashboard
from pipeline.ingress.auth import authenticate, require_admin
from pipeline.ingress.control_plane import Call, ControlPlane
from pipeline.ingress.http_body import ClientGone, read_json_body
from pipeline.ingress.inference import Query
from pipeline.ingress.metrics import CONTENT_TYPE
from pipeline.ingress.sending import Gateway

log = logging.getLogger(__name__)
# The dashboard asks browsers for the token itself.
OPEN_PATHS = ("/healthz", "/readyz", *dashboard.PATHS)
WELL_KNOWN = "/.well-known/"
API = "/api/2.0/serving-endpoints"
TOKENS = "/api/2.0/sluice/tokens"
Page = Callable[[Scope], tuple[int, bytes, bytes]]


class MethodNotAllowed(SluiceError):
    """The path exists, for other methods."""

    status_code, error_code = 405, "INVALID_PARAMETER_VALUE"


class Gate:
    """Authenticates, routes, and turns every error into an answer."""

    def __init__(self, gateway: Gateway, control: ControlPlane) -> None:
        self._tokens, self._metrics = control.tokens, gateway.metrics
        self._router = Router(_routes(gateway, control), redirect_slashes=False, default=_unknown_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        form = scope["sluice.form"] = answers.form_of(path)
        raw_headers = scope["headers"]
        scope["sluice.headers"] = dict(raw_headers)
        # Makes the router raise its 405 instead of answering it in plain text.
        scope["app"] = self
        try:
            if path not in OPEN_PATHS and not path.startswith(WELL_KNOWN):
                scope["sluice.caller"] = authenticate(raw_headers, form, self._tokens)
            await self._router(scope, receive, send)
            return
        except ClientGone:
            return
        except SluiceError as exc:
            error = exc
        except HTTPException as exc:
            allowed = (exc.headers or {}).get("Allow", "")
            error = MethodNotAllowed(f"{scope['method']} {path[:200]}: this path takes {allowed}")
        except Exception as exc:
            # The stack without the message: an exception's text may quote what a user sent.
            log.error("%s on %s %s\n%s", type(exc).__name__, scope["method"], path[:200], "".join(traceback.format_tb(exc.__traceback__)))
            error = SluiceError(f"the gateway failed on this request ({type(exc).__name__}); its log says where")
        self._metrics.refused(error.error_code, error.status_code)
        await answers.respond_error(send, form, error, request_id_of(scope))


def request_id_of(scope: Scope) -> str:
    """The id of this request: the one it went onto the stream with, or a new one."""
    return scope.get("sluice.request_id") or str(uuid_utils.uuid7())


class Handler:
    """A control-plane call as an ASGI application. `admin` names the act that needs an admin; None: anybody with a token may."""

    def __init__(self, handle: Callable[[Call], Awaitable[dict[str, Any]]], max_body_bytes: int, admin: str | None = None) -> None:
        self._handle, self._max_body_bytes, self._admin = handle, max_body_bytes, admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._admin:
            require_admin(scope["sluice.caller"], self._admin)
        body: dict[str, Any] = {}
        if scope["method"] in ("POST", "PUT", "PATCH"):
            body = json_text.parse_object(await read_json_body(scope["sluice.headers"], receive, self._max_body_bytes))
        result = await self._handle(Call(scope["sluice.caller"], scope["path_params"], body))
        await answers.respond(send, 200, orjson.dumps(result), request_id_of(scope))


class Plain:
    """A page that is made without waiting: `page` returns status, content type and body."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status_code, content_type, body = self._page(scope)
        await answers.respond(send, status_code, body, request_id_of(scope), [(b"content-type", content_type)])


async def _unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/responses"):
        raise NotFound("the Responses API is not available in this version; use POST chat/completions")
    raise NotFound(f"there is nothing at {scope['method']} {scope['path'][:200]}; docs/api.md lists the paths")


def _routes(gateway: Gateway, control: ControlPlane) -> list[Route]:
    """The most used first: the router tries them in order."""
    routes = [
        Route("/v1/chat/completions", Query(gateway, "llm/v1/chat"), methods=["POST"]),
        Route("/serving-endpoints/{name}/invocations", Query(gateway), methods=["POST"]),
        Route("/serving-endpoints/chat/completions", Query(gateway, "llm/v1/chat"), methods=["POST"]),
    ]
    routes += [Route(path, Query(gateway, "llm/v1/chat", anthropic=True), methods=["POST"]) for path in answers.MESSAGES_PATHS]
    for base in ("/v1", "/serving-endpoints"):
        routes += [
            Route(f"{base}/completions", Query(gateway, "llm/v1/completions"), methods=["POST"]),
            Route(f"{base}/embeddings", Query(gateway, "llm/v1/embeddings"), methods=["POST"]),
        ]
    return routes + _control_routes(control) + _pages(gateway, control)


def _control_routes(control: ControlPlane) -> list[Route]:
    limit = control.settings.max_body_bytes

    def route(method: str, path: str, handle: Callable[[Call], Awaitable[dict[str, Any]]], admin: str | None = None) -> Route:
        return Route(path, Handler(handle, limit, admin), methods=[method])

    return [
        route("GET", "/v1/models", control.list_models),
        route("GET", "/serving-endpoints/models", control.list_models),
        route("GET", API, control.list_endpoints),
        route("POST", API, control.create_endpoint, "creating an endpoint"),
        route("GET", API + "/{name}", control.show_endpoint),
        route("DELETE", API + "/{name}", control.delete_endpoint, "deleting an endpoint"),
        route("PUT", API + "/{name}/config", control.update_config, "changing an endpoint"),
        route("PUT", API + "/{name}/ai-gateway", control.put_ai_gateway, "changing an endpoint"),
        route("PUT", API + "/{name}/rate-limits", control.put_rate_limits, "changing an endpoint"),
        route("PATCH", API + "/{name}/tags", control.patch_tags, "changing an endpoint"),
        route("POST", TOKENS, control.create_token, "making a token"),
        route("GET", TOKENS, control.list_tokens, "listing tokens"),
        route("DELETE", TOKENS + "/{token_id}", control.revoke_token, "revoking a token"),
    ]


def _pages(gateway: Gateway, control: ControlPlane) -> list[Route]:
    def readyz(_: Scope) -> tuple[int, bytes, bytes]:
        missing = gateway.health.missing()
        body: dict[str, Any] = {"status": "ready"} if not missing else {"status": "not ready", "missing": missing}
        if behind := gateway.health.behind():
            body["behind"] = behind
        return (503 if missing else 200), b"application/json", orjson.dumps(body)

    def healthz(_: Scope) -> tuple[int, bytes, bytes]:
        return 200, b"application/json", b'{"status":"up"}'

    def databricks_config(_: Scope) -> tuple[int, bytes, bytes]:
        # Databricks' SDK asks for this at its start.
        return 200, b"application/json", b'{"oidc_endpoint":"","workspace_id":"0"}'

    def metrics(_: Scope) -> tuple[int, bytes, bytes]:
        return 200, CONTENT_TYPE, gateway.metrics.text()

    def endpoint_metrics(scope: Scope) -> tuple[int, bytes, bytes]:
        return 200, CONTENT_TYPE, control.metrics_of(scope["path_params"]["name"])

    return [
        Route("/healthz", Plain(healthz), methods=["GET"]),
        Route("/readyz", Plain(readyz), methods=["GET"]),
        Route(WELL_KNOWN + "databricks-config", Plain(databricks_config), methods=["GET"]),
        Route("/metrics", Plain(metrics), methods=["GET"]),
        *dashboard.routes(control.settings.dashboard_file, control.tokens),
        Route(API + "/{name}/metrics", Plain(endpoint_metrics), methods=["GET"]),
    ]
