"""The official clients of OpenAI, Anthropic and Databricks against the running gateway, unchanged but for their address."""

from __future__ import annotations

import http.client
from typing import Any

import anthropic
import openai
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service import serving

pytestmark = [pytest.mark.stack]
NAME = "door-clients"
# Longer than httpx, and so the official clients, keep a connection on which nothing happens: 5 s.
IDLE_S = 6.0


@pytest.fixture(scope="module", autouse=True)
def endpoint(stack: Any) -> None:
    stack.create_endpoint(NAME)


@pytest.fixture(scope="module")
def token(stack: Any) -> str:
    return str(stack.token("alice@example.com"))


@pytest.mark.parametrize("base", ["/v1", "/serving-endpoints"])
def test_openais_client_chats_lists_models_and_reads_errors(stack: Any, token: str, base: str) -> None:
    with openai.OpenAI(base_url=stack.host + base, api_key=token, max_retries=0) as client:
        answer = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "hello"}], max_tokens=20)
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert NAME in [model.id for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="nobody"):
            client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hello"}])
    with openai.OpenAI(base_url=stack.host + base, api_key="unknown", max_retries=0) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.parametrize("base", ["", "/serving-endpoints/anthropic"])
def test_anthropics_client_sends_messages_and_reads_errors(stack: Any, token: str, base: str) -> None:
    with anthropic.Anthropic(base_url=stack.host + base, api_key=token, max_retries=0) as client:
        answer = client.messages.create(model=NAME, max_tokens=20, system="be brief", messages=[{"role": "user", "content": "hello"}])
        assert answer.role == "assistant"
        assert answer.content[0].type == "text"
        with pytest.raises(anthropic.NotFoundError, match="nobody"):
            client.messages.create(model="nobody", max_tokens=20, messages=[{"role": "user", "content": "hello"}])


def databricks(stack: Any, token: str) -> WorkspaceClient:
    return WorkspaceClient(config=Config(host=stack.host, token=token, auth_type="pat", retry_timeout_seconds=1))


def test_databricks_sdk_manages_and_queries_endpoints_with_its_own_names(stack: Any) -> None:
    w = databricks(stack, stack.admin_token)
    entity = serving.ServedEntityInput(
        name="gpt",
        external_model=serving.ExternalModel(
            name="demo-small",
            provider=serving.ExternalModelProvider.OPENAI,
            task="llm/v1/chat",
            openai_config=serving.OpenAiConfig(openai_api_key="{{secrets/demo/key}}", openai_api_base=stack.demo_url),
        ),
    )
    limit = serving.AiGatewayRateLimit(
        calls=1_000, renewal_period=serving.AiGatewayRateLimitRenewalPeriod.MINUTE, key=serving.AiGatewayRateLimitKey.USER
    )
    config = serving.EndpointCoreConfigInput(name="door-databricks", served_entities=[entity])
    made = w.serving_endpoints.create_and_wait(
        name="door-databricks",
        config=config,
        ai_gateway=serving.AiGatewayConfig(rate_limits=[limit]),
        tags=[serving.EndpointTag(key="team", value="search")],
    )
    try:
        assert made.state is not None
        assert made.state.ready == serving.EndpointStateReady.READY
        assert made.ai_gateway is not None
        assert made.ai_gateway.rate_limits == [limit]
        changed = w.serving_endpoints.update_config_and_wait(name="door-databricks", served_entities=[entity])
        assert changed.config is not None
        assert changed.config.config_version == 2
        put = w.serving_endpoints.put_ai_gateway(
            name="door-databricks", usage_tracking_config=serving.AiGatewayUsageTrackingConfig(enabled=True)
        )
        assert (put.usage_tracking_config, put.rate_limits) == (serving.AiGatewayUsageTrackingConfig(enabled=True), [limit])
        tags = w.serving_endpoints.patch(name="door-databricks", add_tags=[serving.EndpointTag(key="new", value="x")], delete_tags=["team"])
        assert tags.tags == [serving.EndpointTag(key="new", value="x")]
        assert "door-databricks" in [e.name for e in w.serving_endpoints.list()]
        message = serving.ChatMessage(role=serving.ChatMessageRole.USER, content="hello")
        answer = w.serving_endpoints.query(name="door-databricks", messages=[message], usage_context={"team": "search"})
        assert answer.choices
        assert answer.served_model_name == "demo-small"
        assert w.serving_endpoints.export_metrics(name="door-databricks").contents is not None
        with pytest.raises(ResourceAlreadyExists):
            w.serving_endpoints.create(name="door-databricks", config=config)
        with pytest.raises(BadRequest, match="messages"):
            w.serving_endpoints.query(name="door-databricks", inputs=[1])
    finally:
        w.serving_endpoints.delete("door-databricks")
    with pytest.raises(NotFound, match="door-databricks"):
        w.serving_endpoints.get("door-databricks")
    with pytest.raises(PermissionDenied):
        databricks(stack, stack.token("alice@example.com")).serving_endpoints.create(name="door-denied", config=config)


def test_a_connection_is_not_closed_before_its_client_would_close_it(stack: Any) -> None:
    connection = http.client.HTTPConnection(stack.host.removeprefix("http://"), timeout=IDLE_S)
    try:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        # Nothing comes within this time, not even an end.
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
