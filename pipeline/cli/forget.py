"""`sluice forget USER`: erase what a user has asked so far. The running table job does it; without one, this command."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pipeline.cli.terminal import errors, output, print_table, with_settings
from pipeline.settings import Settings


@with_settings("data", "warehouse")
def forget(
    settings: Settings,
    user: Annotated[str, typer.Argument(help="the name as `requester` has it, e.g. alice@example.com")],
    yes: Annotated[bool, typer.Option("--yes", envvar="SLUICE_YES", help="do not ask")] = False,
) -> None:
    """Remove a user's texts and put a pseudonym in the place of the name, in every table. It can't be undone."""
    if not yes:
        typer.confirm(f"Erase the texts and the name of {user} in all tables of {settings.warehouse_dir}?", abort=True, err=True)
    from jobs import sql_client

    with errors.status("the table job erases ...") as status:
        done = sql_client.forget(user, settings)
        if done is None:
            status.update("starting Spark ...")
            from jobs import table_job

            done = asdict(table_job.forget(settings, user))
    _show(done)


def _show(done: dict[str, Any]) -> None:
    if done["tables"]:
        print_table(("table", "rows changed"), [(name, f"{rows:,}") for name, rows in done["tables"].items()])
    else:
        output.print("no table names this user; is the name written as in `requester`?", highlight=False)
    if done["page_removed"]:
        output.print("the dashboard's page named the user and is removed; `sluice dashboard` makes it anew", highlight=False)
    gone = datetime.fromtimestamp(done["files_gone_ms"] / 1000, UTC)
    output.print(
        f"looked into {done['looked_at']} tables; the name is {done['pseudonym']} now. Old files are removed by {gone:%Y-%m-%d %H:%M} UTC "
        "while a table job runs. What Kafka still holds goes with the topics' retention",
        highlight=False, markup=False,
    )  # fmt: skip
