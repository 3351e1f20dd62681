"""The command `sluice`: one module a topic, each command thin over what does the work.

    stack.py       up, and the parts alone: ingress, worker, tables, demo-provider
    endpoints.py   endpoint list, show, apply, delete
    tokens.py      token create, list, revoke
    chat.py        chat
    sql.py         sql
    audit.py       audit
    costs.py       prices apply, cost
    dashboard.py   dashboard
    forget.py      forget
    backtest.py    backtest
    replay.py      replay
    doctor.py      doctor

Modules that take long to import (Spark, Faust, Kafka) are imported inside the commands that need them. A command that fails exits
with a status other than 0 and one line on stderr that says what to do next.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli import audit, backtest, chat, costs, dashboard, doctor, endpoints, forget, replay, sql, stack, tokens
from pipeline.cli.terminal import errors
from pipeline.errors import SluiceError

app = typer.Typer(name="sluice", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
stack.register(app)
app.add_typer(endpoints.app, name="endpoint")
app.add_typer(tokens.app, name="token")
app.command("chat")(chat.chat)
app.add_typer(costs.prices, name="prices")
app.command("cost")(costs.cost)
app.command("dashboard")(dashboard.dashboard)
app.command("sql")(sql.sql)
app.command("audit")(audit.audit)
app.command("forget")(forget.forget)
app.command("backtest")(backtest.backtest)
app.command("replay")(replay.replay)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sluice {version('sluice-gateway')}")
        raise typer.Exit


@app.callback()
def sluice(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")] = False,
) -> None:
    """An AI gateway that is a stream: limits, guardrails, fallback, and every request in Delta tables."""


def main() -> None:
    """Run the command line; every failure that is foreseen ends as one line on stderr and exit status 1."""
    try:
        app()
    except SluiceError as exc:
        errors.print(f"sluice: {exc.message}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
