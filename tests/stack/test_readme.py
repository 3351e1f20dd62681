"""What the README shows works as it stands: its programs are run, its commands and paths exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "deploy").glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
QUERIES = re.findall(r'^sluice sql "([^"]+)"', README, re.MULTILINE)
TABLES = {"catalog_name": "demo_catalog", "schema_name": "ai", "table_name_prefix": "demo", "enabled": True}


@pytest.fixture(scope="module")
def demo(stack: Any) -> Any:
    """The endpoint that the README presumes."""
    stack.create_endpoint("demo", {"inference_table_config": TABLES, "usage_tracking_config": {"enabled": True}})
    return stack


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_of_the_readme_runs(demo: Any, number: int) -> None:
    program = PROGRAMS[number].replace("127.0.0.1:9092", demo.kafka)
    env = {**os.environ, "SLUICE_HOST": demo.host, "SLUICE_TOKEN": demo.admin_token}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if "print(" in program:
        assert done.stdout.strip()


@pytest.mark.timeout(180)
def test_every_query_of_the_readme_runs(demo: Any) -> None:
    demo.wait_rows("demo_catalog.ai.demo_request_response", 1)
    assert len(QUERIES) >= 2
    for query in QUERIES:
        command = [sys.executable, "-m", "pipeline", "sql", query, "--data", str(demo.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=80, check=False)
        assert done.returncode == 0, done.stderr


def test_there_are_programs_for_three_kinds_of_clients() -> None:
    assert [name for name in ("openai", "databricks.sdk", "aiokafka") if any(f"from {name}" in p for p in PROGRAMS)] == [
        "openai", "databricks.sdk", "aiokafka",
    ]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    known = typer.main.get_group(app).commands
    for first, second in re.findall(r"(?:^|`|\$\()sluice ([a-z][a-z-]*)(?: ([a-z]+))?", document.read_text(), re.MULTILINE):
        assert first in known, f"sluice {first}"
        below = getattr(known[first], "commands", None)
        if below and second:
            assert second in below, f"sluice {first} {second}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_target_and_every_linked_file_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets, named - targets
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (document.parent / link).exists(), link
