"""The specification's Python names, on top of the official databricks-sdk: `from pipeline.sdk import WorkspaceClient, ...`.

The classes are the SDK's own with four differences: strings do where the SDK wants its enums (`provider="openai"`,
`renewal_period="second"`), the specification's names exist beside the SDK's, a configuration need not repeat the endpoint's name,
and `WorkspaceClient()` looks for SLUICE_HOST and SLUICE_TOKEN first. Nothing is checked here: the server refuses wrong values with 400.
The SDK's enums know the period `minute` only: where it reads an answer, other periods show as None.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from databricks import sdk
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    AiGatewayGuardrailParameters,
    AiGatewayGuardrailPiiBehavior,
    AiGatewayGuardrails,
    AiGatewayInferenceTableConfig,
    AiGatewayRateLimit,
    AiGatewayUsageTrackingConfig,
    AnthropicConfig,
    ApiKeyAuth,
    BearerTokenAuth,
    ChatMessage,
    ChatMessageRole,
    CustomProviderConfig,
    EndpointTag,
    FallbackConfig,
    OpenAiConfig,
    Route,
    ServedEntityInput,
    TrafficConfig,
)
from databricks.sdk.service.serving import EndpointCoreConfigInput as _EndpointCoreConfigInput
from databricks.sdk.service.serving import ExternalModel as _ExternalModel

from pipeline.errors import InvalidParameter

__all__ = [
    "AiGatewayConfig",
    "AiGatewayFallbackConfig",
    "AiGatewayGuardrailConfig",
    "AiGatewayGuardrailParameters",
    "AiGatewayGuardrailPiiConfig",
    "AiGatewayGuardrails",
    "AiGatewayInferenceTableConfig",
    "AiGatewayRateLimitConfig",
    "AiGatewayUsageTrackingConfig",
    "AnthropicConfig",
    "ApiKeyAuth",
    "BearerTokenAuth",
    "ChatMessage",
    "ChatMessageRole",
    "CustomProviderConfig",
    "EndpointCoreConfigInput",
    "EndpointTag",
    "ExternalModel",
    "FallbackConfig",
    "OpenAiConfig",
    "Route",
    "ServedEntityInput",
    "TrafficConfig",
    "WorkspaceClient",
]

AiGatewayFallbackConfig = FallbackConfig
AiGatewayGuardrailConfig = AiGatewayGuardrails


class _Text(str):
    """A string that also has `.value`, which is what the SDK asks its enums for."""

    __slots__ = ()

    @property
    def value(self) -> str:
        return str(self)


def _as_enum(value: Any) -> Any:
    """A plain string as the SDK can write it; enums and None as they are."""
    return _Text(value) if isinstance(value, str) else value


@dataclass
class AiGatewayRateLimitConfig(AiGatewayRateLimit):
    """A rate limit: `calls` per `renewal_period` (second, minute, hour, day), of the endpoint or of each user (`key`)."""

    def __post_init__(self) -> None:
        self.renewal_period = _as_enum(self.renewal_period)
        self.key = _as_enum(self.key)


@dataclass
class AiGatewayGuardrailPiiConfig(AiGatewayGuardrailPiiBehavior):
    """What to do with personal data: `behavior` NONE, BLOCK or MASK; which `entities`, and how sure a finding must be (`threshold`)."""

    entities: list[str] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        self.behavior = _as_enum(self.behavior)

    def as_dict(self) -> dict[str, Any]:
        """The object as the API takes it."""
        own = {"entities": self.entities, "threshold": self.threshold}
        return super().as_dict() | {name: value for name, value in own.items() if value is not None}


@dataclass
class EndpointCoreConfigInput(_EndpointCoreConfigInput):
    """What an endpoint serves. `name` may be left out: `create` says it already."""

    # The base class of some versions wants a string, although it writes none where there is none.
    name: str | None = None  # type: ignore[assignment,unused-ignore]


@dataclass
class ExternalModel(_ExternalModel):
    """A model behind the gateway; `provider` openai, anthropic or custom."""

    def __post_init__(self) -> None:
        self.provider = _as_enum(self.provider)


class WorkspaceClient(sdk.WorkspaceClient):
    """The SDK's client, connected to a Sluice gateway.

    Host and token come from the arguments, from SLUICE_HOST and SLUICE_TOKEN, or from DATABRICKS_HOST and DATABRICKS_TOKEN, in
    this order. Raises InvalidParameter where one of them is nowhere. Other arguments are the SDK's.
    """

    def __init__(self, host: str | None = None, token: str | None = None, **options: Any) -> None:
        if "config" not in options:
            # `pat`: no other way of signing in, which the SDK would look for on this machine, leads to this gateway.
            options = {"host": _found("host", host), "token": _found("token", token), "auth_type": "pat", **options}
        super().__init__(**options)


def _found(name: str, given: str | None) -> str:
    variables = [f"{product}_{name.upper()}" for product in ("SLUICE", "DATABRICKS")]
    value = given or next((os.environ[variable] for variable in variables if os.environ.get(variable)), None)
    if not value:
        raise InvalidParameter(f"WorkspaceClient has no {name}; pass {name}=... or set {variables[0]}")
    return value
