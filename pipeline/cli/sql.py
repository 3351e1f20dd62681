"""`sluice sql`: Spark SQL over the tables by their three-part names. Results go to stdout, nothing else does.

The running table job answers, whose Spark is warm; without one a Spark is started for the query.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.api import CommandFailed
from pipeline.cli.terminal import errors, with_settings
from pipeline.settings import Settings


class Format(StrEnum):
    """How rows are printed. `json`: one array of objects."""

    table = "table"
    csv = "csv"
    json = "json"


@with_settings("data", "warehouse")
def sql(
    settings: Settings,
    query: Annotated[str | None, typer.Argument(help='e.g. "SELECT * FROM system.serving.usage_hourly"')] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", envvar="SLUICE_FILE", help="read the query from a file ('-': stdin)")] = None,
    output_format: Annotated[Format, typer.Option("--format", envvar="SLUICE_FORMAT", help="how to print the rows")] = Format.table,
) -> None:
    """Run a query over the tables."""
    if (query is None) == (file is None):
        raise CommandFailed('give either a query, as in: sluice sql "SELECT 1", or a file with -f')
    if file is not None:
        try:
            query = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise CommandFailed(f"{file} can't be read: {exc}") from None
    assert query is not None
    from jobs.sql_client import ask

    with errors.status("asking the table job ...") as status:
        text = ask(query, settings, output_format.value)
        if text is None:
            status.update("starting Spark ...")
            from jobs.sql import run

            text = run(query, settings, output_format.value)
    print(text)
