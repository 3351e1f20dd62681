"""The real demo provider on loopback, and a real client that calls it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pipeline.endpoints import ServedEntity
from pipeline.providers.client import ProviderClient
from pipeline.providers.result import ProviderResult
from pipeline.settings import Settings
from tests.providers.at_loopback import CANARY, CHAT, Call, Demo, Stream, Streamed, read


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo provider for all tests."""
    ledger = tmp_path_factory.mktemp("demo") / "ledger.jsonl"
    process = subprocess.Popen([sys.executable, "-m", "pipeline.demo_provider", "0", str(ledger)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield Demo(process.stdout.readline().split()[-1], ledger)
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()


@pytest.fixture
def entity(demo: Demo) -> Callable[..., ServedEntity]:
    """Makes a served entity whose model is the demo provider's, with the canary as its key."""

    def make(
        model: str, provider: str = "openai", task: str = CHAT, base: str | None = None, key: str = "{{secrets/tests/key}}"
    ) -> ServedEntity:
        base = base or f"{demo.url}/v1"
        config: dict[str, Any] = {
            "openai": {"openai_config": {"openai_api_base": base, "openai_api_key": key}},
            "anthropic": {"anthropic_config": {"anthropic_api_key": key}},
            "custom": {"custom_provider_config": {"custom_provider_url": base, "api_key_auth": {"key": "x-api-key", "value": key}}},
        }[provider]
        return ServedEntity.model_validate(
            {"name": "primary", "external_model": {"name": model, "provider": provider, "task": task, **config}}
        )

    return make


@pytest.fixture
def settings(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings under which the demo provider may be called, with the key in the environment."""
    monkeypatch.setenv("SLUICE_SECRET_TESTS_KEY", CANARY)
    return Settings(allow_private_providers=True, anthropic_api_base=demo.url, max_provider_bytes=1_048_576)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[ProviderClient]:
    """A started client."""
    client = ProviderClient(settings)
    await client.start()
    yield client
    await client.stop()


@pytest.fixture
def asked(entity: Callable[..., ServedEntity]) -> Callable[..., dict[str, Any]]:
    """What the client is to ask a model of the demo provider; arguments change body, deadline, request id and served entity."""

    def arguments(
        model: str,
        *,
        body: dict[str, Any] | None = None,
        timeout_s: float = 10.0,
        request_id: str = "request-1",
        task: str = CHAT,
        **entity_fields: Any,
    ) -> dict[str, Any]:
        body = body or {"messages": [{"role": "user", "content": "How deep is the lock?"}]}
        served = entity(model, task=task, **entity_fields)
        return {"entity": served, "body": body, "task": task, "timeout_s": timeout_s, "request_id": request_id}

    return arguments


@pytest.fixture
def call(client: ProviderClient, asked: Callable[..., dict[str, Any]]) -> Call:
    """Asks a model of the demo provider; arguments are those of `asked`."""

    async def ask(model: str, **more: Any) -> ProviderResult:
        return await client.call(**asked(model, **more))

    return ask


@pytest.fixture
def stream(client: ProviderClient, asked: Callable[..., dict[str, Any]]) -> Stream:
    """As `call`, but asks for a stream, and reads it to its end."""

    async def ask(model: str, **more: Any) -> Streamed:
        return await read(client.stream(**asked(model, **more)))

    return ask
