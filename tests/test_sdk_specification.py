"""Every Python example of the specification, cut out of the document and run against the running gateway.

Changed is only where the names come from: `pipeline.sdk` instead of the databricks-sdk. What an example leaves out, a preamble
supplies: names that it uses without importing them, `w`, the endpoints that it presumes, and a real configuration for `...`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import sdk

pytestmark = [pytest.mark.stack]

SPECIFICATION = Path(__file__).parent / "specification" / "ai-gateway.md"
SOURCES = re.compile(r"^from databricks\.sdk(\.service\.serving)? import", re.MULTILINE)


def examples() -> list[Any]:
    """Each block with the heading it stands under."""
    found: list[Any] = []
    heading = ""
    for match in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", SPECIFICATION.read_text(), re.MULTILINE | re.DOTALL
    ):
        if match["code"] is None:
            heading = match["heading"]
        else:
            found.append(pytest.param(SOURCES.sub("from pipeline.sdk import", match["code"]), id=heading))
    return found


@pytest.fixture
def w(stack: Any, monkeypatch: pytest.MonkeyPatch) -> sdk.WorkspaceClient:
    """The client as the examples make it themselves: `WorkspaceClient()`."""
    monkeypatch.setenv("SLUICE_HOST", stack.host)
    monkeypatch.setenv("SLUICE_TOKEN", stack.admin_token)
    return sdk.WorkspaceClient()


@pytest.fixture
def run(w: sdk.WorkspaceClient) -> Iterator[Any]:
    """Runs an example with what it presumes, returns its names and the value of its last expression; removes its endpoints after."""
    touched: set[str] = set()

    def run(code: str) -> tuple[dict[str, Any], Any]:
        created = set(re.findall(r'create_and_wait\(\s*name="([^"]+)"', code))
        named = set(re.findall(r'(?:put_ai_gateway|patch|create_and_wait)\(\s*name="([^"]+)"', code))
        touched.update(named)
        remove(w, named)
        for name in named - created:
            w.serving_endpoints.create_and_wait(name=name, config=real_config())
        names = {name: getattr(sdk, name) for name in sdk.__all__}
        names |= {
            "w": w,
            "EndpointCoreConfigInput": lambda *args, **kwargs: real_config() if args == (...,) else config_of(*args, **kwargs),
        }
        body = ast.parse(code).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), str(SPECIFICATION), "exec"), names)  # noqa: S102 - the specification's own text
        value = eval(compile(ast.Expression(last.value), str(SPECIFICATION), "eval"), names) if last else None  # noqa: S307 - the same
        return names, value

    yield run
    remove(w, touched)


config_of = sdk.EndpointCoreConfigInput


def real_config() -> sdk.EndpointCoreConfigInput:
    """What stands for `...`."""
    model = sdk.ExternalModel(
        name="gpt-4o",
        provider="openai",
        task="llm/v1/chat",
        openai_config=sdk.OpenAiConfig(openai_api_key="{{secrets/llm-keys/openai-key}}"),
    )
    return config_of(served_entities=[sdk.ServedEntityInput(name="gpt-4o", external_model=model)])


def remove(w: sdk.WorkspaceClient, names: set[str]) -> None:
    for name in names & {str(endpoint.name) for endpoint in w.serving_endpoints.list()}:
        w.serving_endpoints.delete(name)


def shown(w: sdk.WorkspaceClient, name: str) -> dict[str, Any]:
    """What the gateway says of an endpoint, as JSON: the SDK's own classes know fewer renewal periods."""
    answer: Any = w.api_client.do("GET", f"/api/2.0/serving-endpoints/{name}")
    return dict(answer)


def ask(w: sdk.WorkspaceClient, name: str) -> str:
    """One question to an endpoint; the model that answered."""
    message = sdk.ChatMessage(role=sdk.ChatMessageRole.USER, content="hello")
    return str(w.serving_endpoints.query(name=name, messages=[message]).served_model_name)


def test_the_document_has_its_examples() -> None:
    assert len(examples()) == 9


@pytest.mark.parametrize("code", examples())
def test_an_example_runs_and_the_gateway_has_what_it_says(code: str, run: Any, w: sdk.WorkspaceClient) -> None:
    names, value = run(code)
    if "endpoint" in names:
        view = shown(w, names["endpoint"].name)
        assert view["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
        for string in re.findall(r'(?:name|provider|key|value|renewal_period|behavior|_name|_prefix)="([^"]+)"', code):
            assert string in str(view), f"{string} is in the example, but not in {view}"
    if isinstance(value, sdk.AiGatewayInferenceTableConfig):
        value = sdk.AiGatewayConfig(inference_table_config=value)
    if isinstance(value, sdk.AiGatewayConfig):
        try:
            w.serving_endpoints.create_and_wait(name="spec-config", config=real_config(), ai_gateway=value)
            assert contains(shown(w, "spec-config")["ai_gateway"], value.as_dict())
        finally:
            remove(w, {"spec-config"})


def contains(view: Any, wanted: Any) -> bool:
    """Whether everything of `wanted` is in `view`; the gateway adds defaults."""
    if isinstance(wanted, dict):
        return isinstance(view, dict) and all(key in view and contains(view[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(view, list) and len(view) == len(wanted) and all(contains(v, n) for v, n in zip(view, wanted, strict=True))
    return bool(view == wanted)


def example(heading: str) -> str:
    [code] = [param.values[0] for param in examples() if param.id == heading]
    return str(code)


def test_the_governed_endpoint_answers_and_has_its_limit_and_tables(run: Any, w: sdk.WorkspaceClient) -> None:
    run(example("On New Endpoint"))
    assert ask(w, "governed-endpoint") == "gpt-4o"
    view = shown(w, "governed-endpoint")
    assert view["ai_gateway"]["rate_limits"] == [{"calls": 100, "renewal_period": "minute", "key": "endpoint"}]
    assert "my_catalog.my_schema.llm_logs_request_response" in view["notes"][0]


def test_the_existing_endpoint_keeps_what_is_not_sent(run: Any, w: sdk.WorkspaceClient) -> None:
    run(example("On Existing Endpoint"))
    view = shown(w, "my-endpoint")
    assert view["ai_gateway"]["usage_tracking_config"] == {"enabled": True}
    assert [entity["name"] for entity in view["config"]["served_entities"]] == ["gpt-4o"]


def test_the_resilient_endpoint_answers_and_keeps_its_order(run: Any, w: sdk.WorkspaceClient) -> None:
    run(example("Fallback Routes"))
    assert ask(w, "resilient-endpoint") == "gpt-4o"
    view = shown(w, "resilient-endpoint")
    assert [entity["name"] for entity in view["config"]["served_entities"]] == ["primary-openai", "fallback-anthropic"]
    assert view["ai_gateway"]["fallback_config"] == {"enabled": True}


def test_tags_are_updated_as_the_example_says(run: Any, w: sdk.WorkspaceClient) -> None:
    run(example("Endpoint Tags for Cost Allocation"))
    tags = {tag["key"]: tag["value"] for tag in shown(w, "my-endpoint")["tags"]}
    assert tags == {
        "team": "data-science",
        "project": "customer-support",
        "environment": "production",
        "cost-center": "CC-1234",
        "new-tag": "new-value",
    }


def test_the_complete_example_prints_its_line(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(example("Complete AI Gateway Example"))
    assert capsys.readouterr().out == "Endpoint created: production-llm\n"
