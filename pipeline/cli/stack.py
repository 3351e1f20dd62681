"""`sluice up`, and the parts alone. Each part's code is imported only in its own command, and runs until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.terminal import KAFKA_SETTINGS, errors, log_to_stderr, with_settings
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.stack.up import RunningStack

INGRESS_SETTINGS = ("bind", "port", "deadline_s", "max_body_bytes", "max_waiting", "reply_partition", "reply_topics")
GUARDRAIL_SETTINGS = ("guardrail_timeout_s", "ner_processes", "safety_engine", "safety_url", "safety_model", "safety_key")
WORKER_SETTINGS = (
    "worker_id", "secrets", "max_in_flight_per_endpoint", "max_queued_per_endpoint", "repeat_window_s", "session_timeout_s",
    "max_provider_bytes", "openai_api_base", "anthropic_api_base", "allow_private_providers", "reply_topics", "deadline_s",
    *GUARDRAIL_SETTINGS,
)  # fmt: skip
TABLES_SETTINGS = ("warehouse", "trigger_s", "max_offsets_per_trigger", "retention", "alerts", "secrets")
TOPIC_SETTINGS = ("kafka_replication_factor", "raw_text_retention_s")


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command()(up)
    app.command()(ingress)
    app.command()(worker)
    app.command()(tables)
    app.command("demo-provider")(demo_provider)


@with_settings(
    *KAFKA_SETTINGS, "data", "bind", "port", "warehouse", "secrets", "deadline_s", "trigger_s", "retention", "alerts", *GUARDRAIL_SETTINGS,
    *TOPIC_SETTINGS,
)  # fmt: skip
def up(
    settings: Settings,
    workers: Annotated[int, typer.Option("--workers", envvar="SLUICE_WORKERS", min=1, max=64, help="how many workers")] = 1,
    no_tables: Annotated[bool, typer.Option("--no-tables", envvar="SLUICE_NO_TABLES", help="without the table job")] = False,
    demo: Annotated[bool, typer.Option("--demo", envvar="SLUICE_DEMO", help="with the demo provider, and a tour through it all")] = False,
    no_tour: Annotated[bool, typer.Option("--no-tour", envvar="SLUICE_NO_TOUR", help="with --demo: the provider without the tour")] = False,
) -> None:
    """Start the whole stack and keep it running until Ctrl-C: broker, workers, ingress, table job.

    Without --kafka it starts a broker of its own, on this machine only.
    """
    from pipeline.stack.up import StackOptions, run

    log_to_stderr()
    options = StackOptions(
        settings=settings,
        workers=workers,
        tables=not no_tables,
        demo_provider=demo,
        external_kafka="kafka" in settings.model_fields_set,
    )

    async def when_ready(stack: RunningStack) -> None:
        if demo and not no_tour and not no_tables:
            from pipeline.cli.tour import tour

            await tour(stack)
        _print(f"\nSLUICE READY stack {stack.host}")
        _print(f"admin token: {stack.folder.token_file}   Kafka: {stack.settings.kafka}   logs: {stack.folder.logs}   stop: Ctrl-C")

    with errors.status("starting ...") as status:

        def say(line: str) -> None:
            _print(line)
            if "ready" in line.split():
                status.update("starting the other parts ...")

        async def ready(stack: RunningStack) -> None:
            status.stop()
            await when_ready(stack)

        asyncio.run(run(options, say, ready))


def _print(line: str) -> None:
    """One line of progress; stdout is for those who wait for the ready lines, and it may be a pipe."""
    print(line, flush=True)


@with_settings(*KAFKA_SETTINGS, *INGRESS_SETTINGS, *TOPIC_SETTINGS)
def ingress(settings: Settings) -> None:
    """The HTTP side alone: the control plane, and requests onto Kafka and their answers back."""
    from pipeline.ingress import main

    log_to_stderr()
    main(settings)


@with_settings(*KAFKA_SETTINGS, "data", *WORKER_SETTINGS, *TOPIC_SETTINGS)
def worker(settings: Settings) -> None:
    """One worker: rate limits, guardrails, calls of the served entities."""
    from pipeline.worker import main

    log_to_stderr()
    main(settings)


@with_settings(*KAFKA_SETTINGS, "data", *TABLES_SETTINGS)
def tables(settings: Settings) -> None:
    """The table job: from Kafka into the Delta tables. One at a time for each warehouse."""
    from jobs.table_job import main

    log_to_stderr()
    main(settings)


def demo_provider(
    port: Annotated[int, typer.Option("--port", envvar="SLUICE_DEMO_PORT", min=0, max=65_535, help="0: any free port")] = 8081,
    bind: Annotated[str, typer.Option("--bind", envvar="SLUICE_DEMO_BIND", help="address to listen on")] = "127.0.0.1",
    ledger: Annotated[Path | None, typer.Option("--ledger", envvar="SLUICE_DEMO_LEDGER", help="file for the calls it got")] = None,
) -> None:
    """A provider with made-up answers, in OpenAI's and Anthropic's formats, for trying things out."""
    from pipeline.demo_provider import server

    log_to_stderr()
    server.main(port, ledger, bind)
