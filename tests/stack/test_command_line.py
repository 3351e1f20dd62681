"""Every command of the command line: help, variables, and failures that end as one line with what to do next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import app
from pipeline.settings import Settings
from pipeline.stack.data_folder import DataFolder, StackState
from pipeline.stack.ports import free_port


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, each in below.items():
        yield from commands(each, (*path, name))


COMMANDS = dict(commands())


def sluice(*arguments: str, data: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    if data is not None:
        env["SLUICE_DATA"] = str(data)
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = "up ingress worker tables demo-provider chat sql doctor endpoint/list endpoint/show endpoint/apply endpoint/delete"
    wanted += " token/create token/list token/revoke"
    assert {"/".join(path) for path in COMMANDS} >= set(wanted.split())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_every_option_its_variable(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "argument" or parameter.name == "help":
            continue
        variables = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or [])
        assert variables and all(v.startswith("SLUICE_") for v in variables), f"{parameter.opts} has no SLUICE_ variable"
        assert getattr(parameter, "help", None), f"{parameter.opts} has no help"


def test_help_and_version_print_and_are_quick() -> None:
    asked = sluice("--help")
    assert asked.returncode == 0
    assert all(word in asked.stdout for word in ("up", "endpoint", "token", "chat", "sql", "doctor"))
    heavy = "pyspark faust aiokafka httpx starlette spacy presidio_analyzer"
    code = f"import sys, pipeline.cli; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_option_made_from_a_setting_reaches_the_settings_and_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cli.terminal import with_settings

    seen: list[Settings] = []
    small = typer.Typer()

    @small.command()
    @with_settings("port", "data", "allow_private_providers")
    def show(settings: Settings) -> None:
        """Keep what came."""
        seen.append(settings)

    monkeypatch.setenv("SLUICE_PORT", "1234")
    monkeypatch.setenv("SLUICE_DATA", "from-the-variable")
    small(["--port", "4321", "--allow-private-providers"], standalone_mode=False)
    assert (seen[0].port, str(seen[0].data), seen[0].allow_private_providers) == (4321, "from-the-variable", True)
    small([], standalone_mode=False)
    assert (seen[1].port, seen[1].allow_private_providers) == (1234, False)


def test_a_wrong_setting_is_named_with_its_value() -> None:
    failed = sluice("worker", "--deadline-s", "-3")
    assert failed.returncode == 1
    assert failed.stderr.startswith("sluice: a setting is not valid")
    assert "deadline_s" in failed.stderr and "greater than 0" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["endpoint list", "token list", "chat e hello", "endpoint delete e"])
def test_without_a_stack_a_command_says_how_to_start_one(words: str, tmp_path: Path) -> None:
    unknown = sluice(*words.split(), data=tmp_path)
    assert unknown.returncode == 1
    assert "no token for http://127.0.0.1:8080" in unknown.stderr and len(unknown.stderr.splitlines()) == 1

    folder = DataFolder(tmp_path)
    folder.write_token("sluice-made-up")
    folder.write_state(StackState(supervisor=1, host=f"http://127.0.0.1:{free_port()}", kafka="127.0.0.1:1"))
    stopped = sluice(*words.split(), data=tmp_path)
    assert stopped.returncode == 1
    assert "start one with `sluice up`" in stopped.stderr and len(stopped.stderr.splitlines()) == 1
    assert stopped.stdout == ""


def test_the_folders_token_is_not_sent_to_another_address(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.write_token("sluice-made-up")
    folder.write_state(StackState(supervisor=1, host="http://127.0.0.1:1", kafka="127.0.0.1:1"))
    failed = sluice("endpoint", "list", "--host", f"http://127.0.0.1:{free_port()}", data=tmp_path)
    assert failed.returncode == 1
    assert "give --token" in failed.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "neither JSON nor YAML"), ("[1]", "must hold an object with a name"), ("config: {}", "must hold an object with a name")],
)
def test_a_file_that_is_no_endpoint_is_refused_before_anything_is_sent(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text(content)
    failed = sluice("endpoint", "apply", str(file), data=tmp_path)
    assert failed.returncode == 1
    assert message in failed.stderr and str(file) in failed.stderr and len(failed.stderr.splitlines()) == 1


def test_sql_wants_one_query() -> None:
    assert "either a query" in sluice("sql").stderr
    assert "can't be read" in sluice("sql", "-f", "/no/such/file").stderr


def test_the_doctor_names_what_is_wrong_and_the_broker_and_exits_1(tmp_path: Path) -> None:
    kafka = f"127.0.0.1:{free_port()}"
    told = sluice("doctor", "--kafka", kafka, data=tmp_path)
    assert told.returncode == 1
    assert f"no broker answers at {kafka}" in told.stdout
    assert f"Kafka bootstrap address: {kafka}" in told.stdout
    assert "Python 3." in told.stdout and "Java" in told.stdout and "GiB free" in told.stdout


def test_the_doctor_reports_the_table_jobs_own_words(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    (tmp_path / "status").mkdir()
    good, bad = {"lag_batches": 0, "error": None}, {"lag_batches": 3, "error": "the disk is full"}
    status = {
        "updated_ms": 1,
        "kafka_records_behind": 7,
        "alerts_problem": "the webhook is away",
        "targets": {"main.llm.a_request_response": bad, "system.serving.endpoint_usage": good},
    }
    (tmp_path / "status" / "tables.json").write_text(json.dumps(status))
    told = sluice("doctor", "--kafka", f"127.0.0.1:{free_port()}", data=folder.path).stdout
    assert "table main.llm.a_request_response can't be written, its rows wait: the disk is full" in told
    assert "alerts: the webhook is away" in told
    status["targets"] = {"system.serving.endpoint_usage": good}
    (tmp_path / "status" / "tables.json").write_text(json.dumps(status))
    told = sluice("doctor", "--kafka", f"127.0.0.1:{free_port()}", data=folder.path).stdout
    assert "good  the table job: 1 tables, 7 records behind" in told


def test_an_object_stores_address_is_no_folder() -> None:
    done = sluice("sql", "SELECT 1", "--warehouse", "s3a://bucket/tables")
    assert done.returncode == 1
    assert "must be a folder on a file system that this machine mounts" in done.stderr and "warehouse" in done.stderr
    assert not Path("s3a:").exists()
