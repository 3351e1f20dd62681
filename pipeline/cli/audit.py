"""`sluice audit`: whether the tables hold every record once, in numbers; exit status 1 where they don't."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.api import with_kafka_of
from pipeline.cli.terminal import KAFKA_SETTINGS, errors, output, with_settings
from pipeline.settings import Settings

if TYPE_CHECKING:
    from jobs.audit import Audit


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
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ("wanted", "rows", "missing", "waiting", "double", "unexplained")
    table.add_column("table", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    for one in found.tables:
        cells = [f"{getattr(one, column):,}" for column in columns]
        table.add_row(one.name, *[f"[red]{cell}[/red]" if i in (2, 4, 5) and cell != "0" else cell for i, cell in enumerate(cells)])
    output.print(table)
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
