"""`sluice audit`: whether the tables hold every record once, in numbers; exit status 1 where they don't."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.api import with_kafka_of
from pipeline.cli.terminal import KAFKA_SETTINGS, errors, output, print_table, with_settings
from pipeline.settings import Settings

if TYPE_CHECKING:
    from jobs.audit import Audit

# Of the figures: none of these may be above zero.
WRONG = ("missing", "double", "unexplained")


@with_settings(*KAFKA_SETTINGS, "data", "warehouse")
def audit(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", envvar="SLUICE_JSON", help="print JSON instead of tables")] = False,
) -> None:
    """Compare every offset of gateway.records with the rows of all tables."""
    from jobs import audit as auditing
    from jobs.session import spark_session
    from pipeline.stack.data_folder import DataFolder

    settings = with_kafka_of(DataFolder(settings.data).read_state(), settings)
    with errors.status("starting Spark ...") as status:
        found = auditing.audit(settings, spark_session(settings), lambda what: status.update(f"comparing {what} ..."))
    if as_json:
        print(json.dumps({**asdict(found), "behind": found.behind, "complete": found.complete}, indent=1))
    else:
        _show(found)
    if not found.complete:
        raise typer.Exit(1)


def _show(found: Audit) -> None:
    from rich.text import Text

    columns = ("wanted", "rows", "missing", "waiting", "double", "unexplained")
    rows: list[list[str | Text]] = []
    for one in found.tables:
        figures = {column: getattr(one, column) for column in columns}
        cells = [Text(f"{n:,}", "red" if n and column in WRONG else "") for column, n in figures.items()]
        rows.append([one.name, *cells])
    print_table(("table", *columns), rows)
    for one in found.tables:
        for kind, ids in one.examples.items():
            output.print(f"{one.name}: {kind}, for example {', '.join(ids)}", highlight=False, markup=False)
    gaps = ", ".join(f"partition {p}: {n:,}" for p, n in sorted(found.gaps.items())) or "none"
    output.print(
        f"gateway.records: {found.read:,} read, {found.copies:,} of them copies, {found.dead_letters:,} dead letters, "
        f"{found.behind:,} not read yet; gaps: {gaps}; hours that differ from a recount: {found.wrong_hours:,}",
        highlight=False,
    )
    output.print("complete" if found.complete else "NOT complete", style="bold green" if found.complete else "bold red", highlight=False)
