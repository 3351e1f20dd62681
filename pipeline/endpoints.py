"""What can be configured: an endpoint, its served entities and its AI Gateway, as the serving-endpoints API has it.

The models are the API's own JSON (specification; shared facts in the contract, part 2). They refuse what would be ignored
silently: unknown fields, plaintext keys, providers, tasks, periods and keys that this gateway does not serve. `validated`
turns every refusal into one InvalidParameter whose message names the field, the value and the remedy.

This module knows no Kafka and no HTTP; which changes are allowed on which endpoint is core/commands.py's.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from pipeline.core.pii_entities import ALL_ENTITIES, DEFAULT_ENTITIES
from pipeline.errors import InvalidParameter

SECRET_REFERENCE = re.compile(r"\{\{secrets/([A-Za-z0-9_.-]{1,64})/([A-Za-z0-9_.-]{1,128})\}\}")
NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
TABLE_PART_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$"
MAX_SERVED_ENTITIES = 15
MAX_RATE_LIMITS = 20

EndpointName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
TablePart = Annotated[str, StringConstraints(pattern=TABLE_PART_PATTERN)]
Provider = Literal["openai", "anthropic", "custom"]
Task = Literal["llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"]
RenewalPeriod = Literal["second", "minute", "hour", "day"]
RateLimitKey = Literal["endpoint", "user"]


class Config(BaseModel):
    """Base of all that is configured: nothing unknown, no coercion of types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _no_plaintext(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, given in value.items():
                if isinstance(name, str) and name.endswith("_plaintext") and given is not None:
                    field = name.removesuffix("_plaintext")
                    raise ValueError(
                        f"{name} is refused: a key in clear text would lie in Kafka; set {field} to {{{{secrets/SCOPE/KEY}}}} instead"
                    )
            return {k: v for k, v in value.items() if v is not None}
        return value


def _secret_reference(value: str) -> str:
    if not SECRET_REFERENCE.fullmatch(value):
        raise ValueError("must be a secret reference of the form {{secrets/SCOPE/KEY}} (letters, digits, '_', '.', '-')")
    return value


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("must be an http:// or https:// address without user, query or fragment")
    return value.rstrip("/")


class OpenAiConfig(Config):
    openai_api_key: str | None = None
    openai_api_base: str | None = None
    openai_organization: str | None = None

    _key = field_validator("openai_api_key")(_secret_reference)
    _base = field_validator("openai_api_base")(_http_url)


class AnthropicConfig(Config):
    anthropic_api_key: str | None = None

    _key = field_validator("anthropic_api_key")(_secret_reference)


class ApiKeyAuth(Config):
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    value: str

    _value = field_validator("value")(_secret_reference)


class BearerTokenAuth(Config):
    token: str

    _token = field_validator("token")(_secret_reference)


class CustomProviderConfig(Config):
    custom_provider_url: str
    api_key_auth: ApiKeyAuth | None = None
    bearer_token_auth: BearerTokenAuth | None = None

    _url = field_validator("custom_provider_url")(_http_url)


class ExternalModel(Config):
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    provider: Provider
    task: Task
    openai_config: OpenAiConfig | None = None
    anthropic_config: AnthropicConfig | None = None
    custom_provider_config: CustomProviderConfig | None = None

    @model_validator(mode="after")
    def _config_fits_provider(self) -> ExternalModel:
        given = {
            "openai": self.openai_config,
            "anthropic": self.anthropic_config,
            "custom": self.custom_provider_config,
        }
        for provider, config in given.items():
            field = "custom_provider_config" if provider == "custom" else f"{provider}_config"
            if provider == self.provider and config is None:
                raise ValueError(f"provider '{provider}' needs {field}")
            if provider != self.provider and config is not None:
                raise ValueError(f"{field} does not belong to provider '{self.provider}'; remove it")
        if self.provider == "anthropic" and self.task != "llm/v1/chat":
            raise ValueError(f"provider 'anthropic' serves task 'llm/v1/chat' only, not '{self.task}'")
        return self


class ServedEntity(Config):
    name: EndpointName | None = None
    external_model: ExternalModel

    @model_validator(mode="after")
    def _default_name(self) -> ServedEntity:
        if self.name is None:
            # Databricks' rule for external models, widened to what a name may hold.
            self.name = re.sub(r"[^A-Za-z0-9_-]", "-", self.external_model.name).strip("-")[:63] or "entity"
        return self

    @property
    def label(self) -> str:
        """The entity's name, which validation has made sure of."""
        return self.name or ""


class Route(Config):
    traffic_percentage: Annotated[int, Field(ge=0, le=100)]
    served_entity_name: str | None = None
    served_model_name: str | None = None

    @property
    def target(self) -> str:
        """The served entity that gets this share; the older field name is accepted."""
        return self.served_entity_name or self.served_model_name or ""


class TrafficConfig(Config):
    routes: list[Route] = []


class CoreConfig(Config):
    served_entities: Annotated[list[ServedEntity], Field(min_length=1, max_length=MAX_SERVED_ENTITIES)]
    traffic_config: TrafficConfig | None = None

    @model_validator(mode="after")
    def _routes_fit_entities(self) -> CoreConfig:
        names = [e.label for e in self.served_entities]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"served entities need different names; '{twice[0]}' stands twice")
        tasks = sorted({e.external_model.task for e in self.served_entities})
        if len(tasks) > 1:
            raise ValueError(f"all served entities of an endpoint have the same task; found {', '.join(tasks)}")
        routes = self.traffic_config.routes if self.traffic_config else []
        for route in routes:
            if route.target not in names:
                raise ValueError(f"traffic_config names '{route.target}', which is no served entity; there are {', '.join(names)}")
        if routes and sum(r.traffic_percentage for r in routes) != 100:
            raise ValueError(f"the traffic percentages must add up to 100, not {sum(r.traffic_percentage for r in routes)}")
        return self

    @property
    def task(self) -> Task:
        """The one task that all served entities have."""
        return self.served_entities[0].external_model.task


class InferenceTableConfig(Config):
    catalog_name: TablePart | None = None
    schema_name: TablePart | None = None
    table_name_prefix: TablePart | None = None
    enabled: bool = False

    @model_validator(mode="after")
    def _complete_when_enabled(self) -> InferenceTableConfig:
        if self.enabled:
            for field in ("catalog_name", "schema_name", "table_name_prefix"):
                if getattr(self, field) is None:
                    raise ValueError(f"an enabled inference table needs {field}")
            if self.catalog_name == "system":
                raise ValueError("catalog_name 'system' is the gateway's own; choose another catalog")
        return self


class RateLimit(Config):
    renewal_period: RenewalPeriod
    calls: Annotated[int, Field(ge=0, le=1_000_000_000)]
    key: RateLimitKey = "endpoint"

    @property
    def label(self) -> str:
        """The limit as messages name it: `100 calls per minute for each user`."""
        return f"{self.calls} calls per {self.renewal_period} for {'each user' if self.key == 'user' else 'the endpoint'}"


class PiiConfig(Config):
    """`entities` and `threshold` are this gateway's own: which kinds of personal data, and how sure a finding must be (0 to 1)."""

    behavior: Literal["NONE", "BLOCK", "MASK"] = "NONE"
    entities: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    threshold: Annotated[float, Field(ge=0.0, le=1.0, strict=False)] | None = None

    @field_validator("entities")
    @classmethod
    def _known(cls, entities: list[str] | None) -> list[str] | None:
        unknown = sorted(set(entities or ()) - ALL_ENTITIES)
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no entity that can be found here; there are {', '.join(sorted(ALL_ENTITIES))}")
        return entities

    @field_validator("threshold", mode="before")
    @classmethod
    def _number(cls, threshold: Any) -> Any:
        if isinstance(threshold, bool):
            raise ValueError("must be a number from 0 to 1")
        return threshold

    @model_validator(mode="after")
    def _used(self) -> PiiConfig:
        if self.behavior == "NONE" and (self.entities is not None or self.threshold is not None):
            raise ValueError("behavior: entities and threshold need behavior BLOCK or MASK; without one, nothing would be looked for")
        return self

    @property
    def wanted(self) -> frozenset[str]:
        """The entities that are looked for."""
        return frozenset(self.entities) if self.entities else DEFAULT_ENTITIES


Keyword = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"\S")]


# A topic of signs alone would be on no request.
Topic = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"^[^:]*[^\W_][^:]*(:|$)")]


class GuardrailParameters(Config):
    invalid_keywords: Annotated[list[Keyword], Field(max_length=100_000)] = []
    valid_topics: Annotated[list[Topic], Field(max_length=1_000)] = []
    pii: PiiConfig | None = None
    safety: bool = False
    # This gateway's own: what happens where a guardrail's engine fails.
    on_error: Literal["block", "allow"] = "block"


class Guardrails(Config):
    input: GuardrailParameters | None = None
    output: GuardrailParameters | None = None

    @model_validator(mode="after")
    def _topics_are_the_requests(self) -> Guardrails:
        if self.output and self.output.valid_topics:
            raise ValueError("output.valid_topics: topics are the request's; move them to input")
        return self


class UsageTrackingConfig(Config):
    enabled: bool = False


class FallbackConfig(Config):
    enabled: bool


class AiGateway(Config):
    """What `put_ai_gateway` sets: the sections that are sent replace the old ones, the others stay."""

    inference_table_config: InferenceTableConfig | None = None
    usage_tracking_config: UsageTrackingConfig | None = None
    rate_limits: Annotated[list[RateLimit], Field(max_length=MAX_RATE_LIMITS)] | None = None
    guardrails: Guardrails | None = None
    fallback_config: FallbackConfig | None = None


class Tag(Config):
    key: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"\S")]
    value: Annotated[str, StringConstraints(max_length=1_024)] = ""


def _different_keys(tags: list[Tag]) -> list[Tag]:
    keys = [t.key for t in tags]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"tag '{key}' stands twice; each key once")
    return tags


class CreateEndpoint(Config):
    """The body of `POST /api/2.0/serving-endpoints`."""

    name: EndpointName
    config: CoreConfig
    ai_gateway: AiGateway | None = None
    tags: Annotated[list[Tag], Field(max_length=50)] = []
    description: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    # Databricks' switch for its own network path. Nothing to switch here, so only "off" can be honoured.
    route_optimized: Literal[False] | None = None

    _tags = field_validator("tags")(_different_keys)


class PatchTags(Config):
    """The body of `PATCH .../tags`."""

    add_tags: list[Tag] = []
    delete_tags: list[str] = []

    _tags = field_validator("add_tags")(_different_keys)


class Endpoint(BaseModel):
    """An endpoint as `gateway.endpoints` keeps it; readers ignore fields they don't know, so that versions can mix.

    `revision` is the offset of the command that made it, so it grows over all changes, deletions included; requests carry it.
    `config_version` counts the changes of this endpoint from 1; rows carry it.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    endpoint_id: str
    creator: str
    creation_timestamp: int
    last_updated_timestamp: int
    revision: int
    config_version: int
    command_id: str
    config: CoreConfig
    ai_gateway: AiGateway = AiGateway()
    tags: list[Tag] = []
    description: str | None = None

    @property
    def fallback(self) -> bool:
        """Whether another served entity is tried when one fails."""
        return bool(self.ai_gateway.fallback_config and self.ai_gateway.fallback_config.enabled)

    @property
    def usage_tracking(self) -> bool:
        """Whether this endpoint's requests show in `system.serving.endpoint_usage`."""
        return bool(self.ai_gateway.usage_tracking_config and self.ai_gateway.usage_tracking_config.enabled)

    @property
    def tag_map(self) -> dict[str, str]:
        """The tags as the rows carry them."""
        return {t.key: t.value for t in self.tags}


class Token(BaseModel):
    """An access token's owner, as `gateway.tokens` keeps it under the token's hash; the token itself is kept nowhere."""

    model_config = ConfigDict(extra="ignore")

    token_id: str
    user: str
    groups: list[str] = []
    admin: bool = False
    created_ms: int = 0
    revision: int = 0
    command_id: str = ""


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], value: Any, what: str = "the body") -> M:
    """`value` as a `model`, or InvalidParameter that names every wrong field (at most five), what it had, and what is wanted."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise InvalidParameter(f"{what} is not valid: {describe(exc)}") from None


def describe(exc: ValidationError) -> str:
    """A ValidationError as one line: `field: remedy (got value)`; keys in clear text are never repeated."""
    lines = []
    for error in exc.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in error["loc"]) or "it"
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = "is not supported here and would be ignored; remove it"
            lines.append(f"{place}: {message}")
            continue
        given = error.get("input")
        secret = any(word in place.lower() for word in ("key", "token", "secret", "value"))
        shown = f" (got {given!r:.80})" if isinstance(given, str | int | float | bool) and not secret else ""
        lines.append(f"{place}: {message}{shown}")
    return "; ".join(lines)
