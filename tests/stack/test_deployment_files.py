"""What stands in docker-compose.yml and the Kubernetes examples exists: every command, option and setting."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipeline.cli import app
from pipeline.kafka.connection import MAX_REQUEST_BYTES
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image", "").startswith("sluice-")}
MANIFESTS = [
    document
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
    if document
]


def parsed(words: list[str]) -> typer.Context:
    """The words of a command line, parsed by the command itself but not run; a usage error where they are wrong."""
    assert words[0] == "sluice"
    command = typer.main.get_group(app).commands[words[1]]
    context: typer.Context = command.make_context(words[1], words[2:])
    return context


def check_variables(environment: dict[str, str]) -> None:
    for name in environment:
        if name.startswith("SLUICE_"):
            assert name.removeprefix("SLUICE_").lower() in Settings.model_fields, f"{name} is no setting"
    plain = {name: value for name, value in environment.items() if "${" not in value}
    Settings(**{name.removeprefix("SLUICE_").lower(): value for name, value in plain.items()})


def test_the_compose_file_has_every_part() -> None:
    assert [service["command"][1] for service in OURS.values()] == ["ingress", "worker", "worker", "tables", "demo-provider"]
    assert COMPOSE["services"]["kafka"]["image"] == "apache/kafka:4.2.0"


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_variable_of_the_compose_file_exists(name: str) -> None:
    service = OURS[name]
    parsed(service["command"])
    check_variables(service.get("environment", {}))
    assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_workers_differ_in_their_names() -> None:
    names = [parsed(s["command"]).params["worker_id"] for s in OURS.values() if s["command"][1] == "worker"]
    assert len(set(names)) == len(names) == 2


def test_the_brokers_take_the_largest_record() -> None:
    environment = COMPOSE["services"]["kafka"]["environment"]
    assert int(environment["KAFKA_MESSAGE_MAX_BYTES"]) == int(environment["KAFKA_REPLICA_FETCH_MAX_BYTES"]) == MAX_REQUEST_BYTES
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_every_command_and_variable_of_the_kubernetes_examples_exists() -> None:
    commands = []
    for document in MANIFESTS:
        if document["kind"] == "ConfigMap":
            check_variables(document["data"])
        if document["kind"] not in ("StatefulSet", "Deployment"):
            continue
        for container in document["spec"]["template"]["spec"]["containers"]:
            words = container["command"]
            if words[:2] == ["sh", "-c"]:
                script = re.sub(r"\$\(\(.*?\)\)", "1", words[2]).removeprefix("exec ").replace("$HOSTNAME", "pod-1")
                words = shlex.split(script)
            parsed(words)
            commands.append(words[1])
    assert sorted(commands) == ["ingress", "tables", "worker"]


def test_a_wrong_option_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["sluice", "worker", "--worker-name", "x"])
    with pytest.raises(AssertionError):
        check_variables({"SLUICE_KAFKA_ADDRESS": "kafka:9092"})


def test_the_images_copy_only_what_is_there() -> None:
    for file in (ROOT / "deploy").glob("*.Dockerfile"):
        for line in file.read_text().splitlines():
            if line.startswith("COPY"):
                assert all((ROOT / source).exists() for source in line.split()[1:-1]), f"{file.name}: {line}"
