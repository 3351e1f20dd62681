"""`sluice replay`: logged requests sent through another endpoint, at limits of their own and outside of the usage figures, and compared.

The same command goes on with a replay that was cut off, and begins a new one where the last is finished.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from pipeline.cli.api import CommandFailed, Gateway, Host, Token
from pipeline.cli.endpoints import ENDPOINTS
from pipeline.cli.terminal import errors, output, print_table, with_settings
from pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.replay.figures import Figures
    from pipeline.replay.folder import Replay, Replays
    from pipeline.replay.records import Original


@with_settings("data", "warehouse")
def replay(
    settings: Settings,
    source: Annotated[str, typer.Option("--from", envvar="SLUICE_FROM", help="CATALOG.SCHEMA.PREFIX of the logged requests")],
    to: Annotated[str, typer.Option("--to", envvar="SLUICE_TO", help="the endpoint that they are sent through")],
    where: Annotated[str, typer.Option("--where", envvar="SLUICE_WHERE", help="which rows, in Spark SQL")] = "true",
    limit: Annotated[int | None, typer.Option("--limit", envvar="SLUICE_LIMIT", min=1, help="so many of them, the oldest first")] = None,
    rate: Annotated[float, typer.Option("--rate", envvar="SLUICE_RATE", min=0.01, max=10_000, help="requests in a second, at most")] = 10,
    concurrency: Annotated[
        int, typer.Option("--concurrency", envvar="SLUICE_CONCURRENCY", min=1, max=500, help="requests under way at once, at most")
    ] = 8,
    out: Annotated[
        Path | None, typer.Option("--out", envvar="SLUICE_OUT", help="where the page goes; the replay's folder unless given")
    ] = None,
    host: Host = None,
    token: Token = None,
) -> None:
    """Send logged requests through the endpoint TO and compare; the same command again goes on where it was cut off."""
    from jobs.replay import full_name
    from pipeline.replay.folder import Replays

    table, gateway = full_name(source), Gateway(host, token, settings.data)
    target = gateway.call("GET", f"{ENDPOINTS}/{quote(to, safe='')}", doing=f"asking for {to}")
    replays = Replays(settings.data.resolve())
    replays.tidy()
    found = replays.unfinished(table, where, to, limit)
    if found is None:
        found = replays.new(table, where, to, limit, _chosen(settings, table, where, limit, target["task"]))
    with found.working():
        _say_plan(found)
        _send(found, gateway, rate, concurrency)
        _keep(found, replays, settings, target, out)


def _chosen(settings: Settings, table: str, where: str, limit: int | None, task: str) -> Iterator[Original | str]:
    from jobs.replay import logged
    from jobs.session import spark_session
    from pipeline.replay.preparing import prepared

    with errors.status("starting Spark ...") as status:
        spark = spark_session(settings, micro_batches=True)
        status.update("choosing requests ...")
        place = 0
        for row in logged(spark, settings.warehouse_dir, table, where, limit):
            made = prepared(row, place, task)
            place += not isinstance(made, str)
            yield made


def _say_plan(replay: Replay) -> None:
    plan = replay.plan
    text = f"replay {plan.replay_id}: {plan.requests:,} requests of {plan.table} to {plan.endpoint}"
    if plan.skipped:
        text += "; left out: " + ", ".join(f"{count:,} {why}" for why, count in plan.skipped.items())
    errors.print(text, markup=False, highlight=False)
    if plan.requests == 0:
        replay.finish()
        raise CommandFailed(f"no request of {plan.table} where {plan.where} can be sent; nothing was replayed")


def _send(replay: Replay, gateway: Gateway, rate: float, concurrency: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipeline.replay.records import Result
    from pipeline.replay.sending import Sender

    plan, done = replay.plan, replay.results()
    if done:
        errors.print(f"{len(done):,} of them are done already", highlight=False)
    bar = Progress(TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=errors)
    task = bar.add_task("", total=plan.requests, completed=len(done))

    def note(result: Result) -> None:
        replay.add(result)
        bar.advance(task)

    async def send() -> None:
        async with gateway.client(concurrency) as client:
            sender = Sender(client, plan.replay_id, plan.endpoint, rate=rate, concurrency=concurrency)
            await sender.run((o for o in replay.originals() if o.place not in done), note)

    try:
        with bar:
            asyncio.run(send())
    except KeyboardInterrupt:
        raise CommandFailed(f"stopped; the same command goes on with replay {plan.replay_id}") from None


def _keep(replay: Replay, replays: Replays, settings: Settings, target: dict[str, Any], out: Path | None) -> None:
    from jobs.replay import keep
    from jobs.replay_page import page
    from jobs.session import spark_session
    from pipeline.replay.figures import figures

    with errors.status("starting Spark ...") as status:
        spark = spark_session(settings, micro_batches=True)
        status.update("keeping the results ...")
        entities = target["config"]["served_entities"]
        models = {entity["name"]: entity["external_model"]["name"] for entity in entities if entity.get("external_model")}
        with replays.table():
            rows = keep(spark, settings.warehouse_dir, replay.plan, replay.originals(), replay.results(), models)
    found, file = figures(rows), out or replay.page
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page(replay.plan, found, rows, datetime.now(UTC)), encoding="utf-8")
    except OSError as exc:
        raise CommandFailed(f"the page {file} can't be written: {exc.strerror}; choose another place with --out") from None
    replay.finish()
    _print(found)
    output.print(f"the page: {file}; each pair: system.serving.replays", markup=False, highlight=False)


def _print(found: Figures) -> None:
    from pipeline.replay.figures import summary

    def say(text: str) -> None:
        output.print(text, markup=False, highlight=False)

    print_table(("", "then", "now"), summary(found))
    say(f"{found.other_status:,} of {found.pairs:,} requests have another status now")
    if found.similarity:
        spread = ", ".join(f"{p} % are below {value:.2f}" for p, value in found.similarity.items() if p != 50)
        say(
            f"{found.compared:,} pairs of answers: {found.same:,} have the same text; similarity of characters: "
            f"median {found.similarity[50]:.2f}, {spread}"
        )
    if found.findings:
        lines = [(name, *(f"{count:,}" for count in counts)) for name, counts in found.findings.items()]
        print_table(("guardrails found", "then", "now", "only now", "only then"), lines)
    say(f"{found.other_findings:,} requests with other findings of guardrails now")
    if found.masked:
        say(f"{found.masked:,} were masked before they were logged: this endpoint never saw what was masked")
    if found.unpriced:
        say(f"{found.unpriced:,} have no price on one side and are in no cost; see `sluice prices apply`")
