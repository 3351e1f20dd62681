"""`sluice backtest`: what guardrails would have done to an endpoint's logged traffic, before anyone enables them. Changes nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from pipeline.cli.api import CommandFailed, Gateway, Host, Token, read_document
from pipeline.cli.endpoints import ENDPOINTS
from pipeline.cli.terminal import errors, output, with_settings
from pipeline.settings import Settings

if TYPE_CHECKING:
    from jobs.backtest import Report

# So many changed requests are shown; `--format json` has all of them.
SHOWN = 20


class Format(StrEnum):
    """How the report is printed. `json`: whole, with every request id."""

    table = "table"
    json = "json"


@with_settings("data", "warehouse")
def backtest(
    settings: Settings,
    endpoint: Annotated[str, typer.Argument(help="the endpoint whose logged requests are examined")],
    guardrails: Annotated[Path, typer.Option("--guardrails", envvar="SLUICE_GUARDRAILS", help="JSON or YAML: the API's guardrails object")],
    days: Annotated[int, typer.Option("--days", envvar="SLUICE_DAYS", min=1, max=3_650, help="how far back to look")] = 7,
    table: Annotated[
        str | None, typer.Option("--table", envvar="SLUICE_TABLE", help="CATALOG.SCHEMA.PREFIX; else the gateway is asked for it")
    ] = None,
    output_format: Annotated[Format, typer.Option("--format", envvar="SLUICE_FORMAT", help="how to print the report")] = Format.table,
    host: Host = None,
    token: Token = None,
) -> None:
    """Tell what GUARDRAILS would have blocked or masked in ENDPOINT's last DAYS days."""
    wanted = _read(guardrails)
    place = table or _table_of(Gateway(host, token, settings.data), endpoint)
    if place.count(".") != 2 or not all(place.split(".")):
        raise CommandFailed(f"--table '{place}' must have three parts: CATALOG.SCHEMA.PREFIX")
    from rich.text import Text

    from jobs.backtest import run

    with errors.status(Text(f"examining the last {days} days of {endpoint} in {place} ...")):
        report = run(place, endpoint, wanted, days=days, now_ms=time.time_ns() // 1_000_000, settings=settings)
    if output_format is Format.json:
        print(report.as_json())
    else:
        _print(report)


def _table_of(gateway: Gateway, endpoint: str) -> str:
    found = gateway.call("GET", f"{ENDPOINTS}/{quote(endpoint, safe='')}", doing=f"asking for {endpoint}'s table")
    logged = (found.get("ai_gateway") or {}).get("inference_table_config") or {}
    if not logged.get("catalog_name"):
        raise CommandFailed(f"endpoint '{endpoint}' writes no inference table, so it has no history; enable one, or name it with --table")
    return "{catalog_name}.{schema_name}.{table_name_prefix}".format(**logged)


def _read(file: Path) -> Any:
    """The guardrails that a file holds, alone or within an endpoint's body. Raises CommandFailed."""
    from pydantic import ValidationError

    from pipeline.endpoints import Guardrails, describe

    body = read_document(file)
    while isinstance(body, dict) and (inner := body.get("ai_gateway", body.get("guardrails"))) is not None:
        body = inner
    if not isinstance(body, dict) or not (body.get("input") or body.get("output")):
        raise CommandFailed(f"{file} must hold an object with 'input' or 'output', as the API's guardrails have it")
    try:
        return Guardrails.model_validate(body)
    except ValidationError as exc:
        raise CommandFailed(f"{file} holds no valid guardrails: {describe(exc)}") from None


def _print(report: Report) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def say(text: str) -> None:
        output.print(text, markup=False, highlight=False)

    def add(to: Table, *cells: str) -> None:
        # Request ids and requesters are the callers': what looks like markup in them is none.
        to.add_row(*(Text(cell, overflow="fold") for cell in cells))

    say(f"{report.requests} requests to {report.endpoint} of the last {report.days} days in {report.table}")
    if report.without_text:
        say(f"{report.without_text} of them have no text in the table: only their answers could be examined")
    if report.without_answer:
        say(f"{report.without_answer} answers that were delivered have no text in the table and could not be examined")
    for side, count in report.not_checked.items():
        if count:
            say(f"{count} {'requests' if side == 'input' else 'answers'} could not be read and were not checked")
    if report.masked:
        say(
            f"{report.masked} were masked when they were logged: the personal data of {report.assumed} (assumed) is taken to be found "
            "again, keywords and topics in the masked parts are lost"
        )
    rates = Table("rule", "examined", "blocked", "masked", "rate", "not checked", box=box.SIMPLE_HEAD)
    for rate in report.rates:
        hit = rate.blocked + rate.masked
        share = f"{100 * hit / rate.examined:.2f} %" if rate.examined else "-"
        add(rates, rate.rule, str(rate.examined), str(rate.blocked), str(rate.masked), share, str(rate.failed))
    output.print(rates)
    say(f"{len(report.changed)} requests would have ended otherwise:")
    if report.changed:
        changed = Table("request", "time (UTC)", "requester", "was", "would be", "because of", box=box.SIMPLE_HEAD)
        for one in report.changed[:SHOWN]:
            when = datetime.fromtimestamp(one.timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            add(changed, one.request_id, when, one.requester, one.was.lower(), one.would.lower(), ", ".join(one.rules))
        output.print(changed)
        if len(report.changed) > SHOWN:
            say(f"... and {len(report.changed) - SHOWN} more; --format json has them all")
    if report.stopped:
        say("Answers already delivered that would have been stopped:")
        stopped = Table("requester", "answers", "requests", box=box.SIMPLE_HEAD)
        for requester, ids in sorted(report.stopped.items(), key=lambda item: -len(item[1])):
            add(stopped, requester, str(len(ids)), ", ".join(ids[:5]) + (" ..." if len(ids) > 5 else ""))
        output.print(stopped)
