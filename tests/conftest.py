"""The running product, for the tests that need it.

    stack          one for the whole session: broker, two workers, ingress, table job and the demo provider, as `sluice up` starts them
    fresh_stack    makes one for a single test, for those that kill parts; call it with further arguments of `sluice up`
    running_stack  makes one that lives longer: other fixtures of session or module scope build on it

Tests that use them get the marker `stack` and run after all others, those that kill things last. Nothing survives the session: every
process is started in a group of its own, and the parts die with their supervisor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.running import RowsOf, Stack, rows_reader


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first, then those on the shared stack, then those that start stacks of their own."""

    def cost(item: pytest.Item) -> int:
        names = set(getattr(item, "fixturenames", ()))
        if names & {"stack", "fresh_stack", "running_stack"}:
            item.add_marker("stack")
        return 2 if "fresh_stack" in names else int(item.get_closest_marker("stack") is not None)

    items.sort(key=cost)


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the shared stack. Spark knows one warehouse in a process: this folder's, so that names work in queries."""
    return tmp_path_factory.mktemp("shared") / "data"


@pytest.fixture(scope="session")
def rows_of(shared_data: Path) -> RowsOf:
    """Reads a Delta table below any warehouse, by its path; one Spark session for all of them, started at the first use."""
    return rows_reader(shared_data)


@contextmanager
def _running(data: Path, arguments: Sequence[str], env: dict[str, str], rows_of: RowsOf) -> Iterator[Stack]:
    stack = Stack(data, arguments, env, rows_of)
    stack.start()
    try:
        yield stack
    finally:
        if stack._process is not None and stack._process.poll() is None:
            stack.stop()


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory, rows_of: RowsOf) -> Callable[..., Any]:
    """`with running_stack("--workers", "2", SLUICE_DEADLINE_S="5") as stack:` for fixtures of any scope."""

    def make(*arguments: str, data: Path | None = None, **env: str) -> Any:
        return _running(data or tmp_path_factory.mktemp("stack") / "data", arguments, env, rows_of)

    return make


@pytest.fixture(scope="session")
def stack(running_stack: Callable[..., Any], shared_data: Path) -> Iterator[Stack]:
    """The stack that most tests share: two workers, the table job, the demo provider. Use endpoint names of your own."""
    with running_stack("--workers", "2", data=shared_data) as running:
        yield running


@pytest.fixture
def fresh_stack(running_stack: Callable[..., Any]) -> Iterator[Callable[..., Stack]]:
    """Makes a brand-new stack for this test alone: `fresh_stack("--no-tables", SLUICE_DEADLINE_S="5")`."""
    made: list[Any] = []

    def make(*arguments: str, **env: str) -> Stack:
        context = running_stack(*arguments, **env)
        started: Stack = context.__enter__()
        made.append(context)
        return started

    yield make
    for context in reversed(made):
        context.__exit__(None, None, None)
