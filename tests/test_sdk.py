"""The specification's names: strings where the SDK wants enums, and a client that finds its gateway."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from databricks.sdk.service import serving

from pipeline import sdk
from pipeline.errors import InvalidParameter

SPECIFICATION = Path(__file__).parent / "specification" / "ai-gateway.md"
VARIABLES = ("SLUICE_HOST", "SLUICE_TOKEN", "DATABRICKS_HOST", "DATABRICKS_TOKEN")


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no configuration file of this machine says where to connect."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_every_name_that_the_specification_imports_or_calls_is_there() -> None:
    python = "".join(re.findall(r"```python\n(.*?)```", SPECIFICATION.read_text(), re.DOTALL))
    used = set(re.findall(r"\b([A-Z][A-Za-z]+)\(", python)) | set(re.findall(r"^    ([A-Z][A-Za-z]+),$", python, re.MULTILINE))
    assert len(used) >= 15
    assert used <= set(sdk.__all__)
    assert all(hasattr(sdk, name) for name in sdk.__all__)


@pytest.mark.parametrize("period", ["second", "minute", "hour", "day"])
@pytest.mark.parametrize("key", [None, "endpoint", "user"])
def test_a_rate_limit_is_written_as_the_api_wants_it(period: str, key: str | None) -> None:
    limit = sdk.AiGatewayRateLimitConfig(calls=5, renewal_period=period, key=key)
    assert limit.as_dict() == {"calls": 5, "renewal_period": period} | ({"key": key} if key else {})
    assert sdk.AiGatewayConfig(rate_limits=[limit]).as_dict() == {"rate_limits": [limit.as_dict()]}


def test_the_sdks_enums_do_as_well_as_strings() -> None:
    limit = sdk.AiGatewayRateLimitConfig(calls=5, renewal_period=serving.AiGatewayRateLimitRenewalPeriod.MINUTE)
    assert limit.as_dict() == {"calls": 5, "renewal_period": "minute"}
    pii = sdk.AiGatewayGuardrailPiiConfig(behavior=serving.AiGatewayGuardrailPiiBehaviorBehavior.MASK)
    assert pii.as_dict() == sdk.AiGatewayGuardrailPiiConfig(behavior="MASK").as_dict() == {"behavior": "MASK"}


def test_values_are_the_servers_to_judge() -> None:
    model = sdk.ExternalModel(name="m", provider="nobody", task="llm/v1/paint", openai_config=sdk.OpenAiConfig(openai_api_key="x"))
    assert model.as_dict() == {"name": "m", "provider": "nobody", "task": "llm/v1/paint", "openai_config": {"openai_api_key": "x"}}


def test_a_configuration_need_not_repeat_the_endpoints_name() -> None:
    entity = sdk.ServedEntityInput(name="gpt", external_model=sdk.ExternalModel(name="m", provider="openai", task="llm/v1/chat"))
    config = sdk.EndpointCoreConfigInput(served_entities=[entity])
    assert config.as_dict() == {"served_entities": [entity.as_dict()]}


def test_guardrails_and_fallback_have_the_specifications_names() -> None:
    config = sdk.AiGatewayConfig(
        fallback_config=sdk.AiGatewayFallbackConfig(enabled=True),
        guardrails=sdk.AiGatewayGuardrailConfig(input=sdk.AiGatewayGuardrailParameters(invalid_keywords=["secret"], safety=True)),
    )
    assert config.as_dict() == {
        "fallback_config": {"enabled": True},
        "guardrails": {"input": {"invalid_keywords": ["secret"], "safety": True}},
    }


class Nothing(BaseHTTPRequestHandler):
    """Answers 404 to the look that the SDK takes at its host."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Addresses of three servers."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Nothing) for _ in range(3)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_arguments_come_before_sluices_variables_and_these_before_databricks(monkeypatch: pytest.MonkeyPatch, hosts: list[str]) -> None:
    argument, sluice, databricks = hosts
    for variable, value in zip(VARIABLES, (sluice, "sluice-1", databricks, "dapi-2"), strict=True):
        monkeypatch.setenv(variable, value)
    found = sdk.WorkspaceClient(host=argument, token="given").config
    assert (found.host, found.token) == (argument, "given")
    found = sdk.WorkspaceClient().config
    assert (found.host, found.token) == (sluice, "sluice-1")
    monkeypatch.delenv("SLUICE_HOST")
    monkeypatch.delenv("SLUICE_TOKEN")
    found = sdk.WorkspaceClient().config
    assert (found.host, found.token) == (databricks, "dapi-2")


def test_a_client_without_an_address_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameter, match="SLUICE_HOST"):
        sdk.WorkspaceClient()
    monkeypatch.setenv("SLUICE_HOST", "http://127.0.0.1:1")
    with pytest.raises(InvalidParameter, match="SLUICE_TOKEN"):
        sdk.WorkspaceClient()
