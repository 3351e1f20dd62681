"""The commands that talk to a running stack, against a running stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Sluice = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sluice(stack: Any) -> Sluice:
    """Run a command that finds the stack by its data folder alone."""

    def run(*arguments: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_") or k == "SLUICE_JARS"}
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments], env={**clean, "SLUICE_DATA": str(stack.data), **env}, input=stdin,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    return run


def endpoint(stack: Any, name: str, **sections: Any) -> dict[str, Any]:
    return {"name": name, "config": {"served_entities": [stack.entity("echo")]}, **sections}


def test_apply_creates_then_changes_and_what_the_file_leaves_out_is_off_afterwards(stack: Any, sluice: Sluice, tmp_path: Path) -> None:
    file = tmp_path / "endpoint.yaml"
    gateway = {
        "rate_limits": [{"calls": 3, "renewal_period": "hour", "key": "user"}],
        "guardrails": {"input": {"invalid_keywords": ["confidential"]}},
        "usage_tracking_config": {"enabled": True},
    }
    file.write_text(yaml.safe_dump(endpoint(stack, "cli-apply", ai_gateway=gateway, tags=[{"key": "team", "value": "a"}])))
    created = sluice("endpoint", "apply", str(file))
    assert (created.returncode, created.stdout) == (0, "endpoint cli-apply created\n")
    assert "3/hour/user" in sluice("endpoint", "list").stdout

    changed = sluice("endpoint", "apply", "-", stdin=json.dumps(endpoint(stack, "cli-apply", tags=[{"key": "squad", "value": "b"}])))
    assert (changed.returncode, changed.stdout) == (0, "endpoint cli-apply changed\n")
    shown = json.loads(sluice("endpoint", "show", "cli-apply").stdout)
    assert shown["tags"] == [{"key": "squad", "value": "b"}]
    assert not shown["ai_gateway"].get("rate_limits") and not shown["ai_gateway"]["guardrails"]
    assert shown["ai_gateway"]["usage_tracking_config"] == {"enabled": False}

    assert sluice("endpoint", "delete", "cli-apply").returncode == 0
    again = sluice("endpoint", "delete", "cli-apply")
    assert again.returncode == 1
    assert "RESOURCE_DOES_NOT_EXIST" in again.stderr and "'cli-apply'" in again.stderr and len(again.stderr.splitlines()) == 1


def test_a_wrong_configuration_is_refused_with_the_gateways_words(stack: Any, sluice: Sluice) -> None:
    wrong = endpoint(stack, "cli-wrong", ai_gateway={"rate_limits": [{"calls": -1, "renewal_period": "minute"}]})
    refused = sluice("endpoint", "apply", "-", stdin=json.dumps(wrong))
    assert refused.returncode == 1
    assert "INVALID_PARAMETER_VALUE" in refused.stderr and "calls" in refused.stderr


def test_a_token_stands_alone_on_the_last_line_and_works_until_it_is_revoked(stack: Any, sluice: Sluice) -> None:
    stack.create_endpoint("cli-token", entities=[stack.entity("echo")])
    made = sluice("token", "create", "carol@example.com", "--group", "research", "--group", "search")
    assert made.returncode == 0
    token = made.stdout.splitlines()[-1]
    assert made.stdout == f"{token}\n" and token.startswith("sluice-")

    said = sluice("chat", "cli-token", "good morning", SLUICE_TOKEN=token)
    assert (said.returncode, said.stdout) == (0, "good morning\n")
    forbidden = sluice("token", "list", SLUICE_TOKEN=token)
    assert forbidden.returncode == 1 and "PERMISSION_DENIED" in forbidden.stderr

    listed = sluice("token", "list").stdout
    [line] = [line for line in listed.splitlines() if "carol@example.com" in line and "research, search" in line]
    assert token not in listed
    assert sluice("token", "revoke", line.split()[0]).returncode == 0
    refused = sluice("chat", "cli-token", "still there?", SLUICE_TOKEN=token)
    assert refused.returncode == 1 and "UNAUTHENTICATED" in refused.stderr and token not in refused.stderr


def test_a_first_admin_can_be_made_over_kafka_alone(stack: Any, sluice: Sluice, tmp_path: Path) -> None:
    made = sluice("token", "create", "root@example.com", "--admin", "--kafka", stack.kafka, SLUICE_DATA=str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert "root@example.com" in sluice("token", "list", SLUICE_TOKEN=made.stdout.strip(), SLUICE_HOST=stack.host).stdout


def test_chat_shows_why_it_was_refused(stack: Any, sluice: Sluice) -> None:
    stack.create_endpoint("cli-limited", {"rate_limits": [{"calls": 0, "renewal_period": "hour"}]})
    refused = sluice("chat", "cli-limited", "hello")
    assert refused.returncode == 1
    assert "REQUEST_LIMIT_EXCEEDED" in refused.stderr and "try again in" in refused.stderr and refused.stdout == ""


def test_sql_prints_json_csv_and_a_table_and_fails_in_one_line(stack: Any, sluice: Sluice, tmp_path: Path) -> None:
    file = tmp_path / "query.sql"
    file.write_text("SELECT 1 AS one, 'a,b' AS text")
    as_json = sluice("sql", "-f", str(file), "--format", "json")
    assert as_json.returncode == 0, as_json.stderr
    assert json.loads(as_json.stdout) == [{"one": 1, "text": "a,b"}]
    assert sluice("sql", "SELECT 1 AS one, 'a,b' AS text", "--format", "csv").stdout.splitlines() == ["one,text", '1,"a,b"']
    assert "one" in sluice("sql", "SELECT 1 AS one").stdout
    failed = sluice("sql", "SELECT * FROM no_catalog.no_schema.no_table")
    assert failed.returncode == 1 and "no_table" in failed.stderr and "Traceback" not in failed.stderr
