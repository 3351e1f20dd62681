"""`sluice prices`: what a token costs from when on. `sluice cost`: what was spent, by tag, endpoint, model or user."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.api import CommandFailed, read_document
from pipeline.cli.terminal import errors, output, print_table, with_settings
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import Row

    from jobs.costs import Costs

prices = typer.Typer(no_args_is_help=True, help="List prices of models, for each token, from when on.")
# What costs can be summed by; everything else is the key of a tag.
COLUMNS = {"endpoint": "endpoint_name", "entity": "served_entity_name", "model": "model", "user": "requester"}
TIMES = {"hour": "hour", "day": "date(hour)", "month": "date_format(hour, 'yyyy-MM')"}
FIGURES = ("requests", "input tokens", "output tokens", "unpriced", "cost")
DAYS_BACK = 30


@prices.command("apply")
@with_settings("data", "warehouse")
def apply(settings: Settings, file: Annotated[Path, typer.Argument(help="YAML or JSON; '-' is standard input")]) -> None:
    """Put the file's prices in the place of all others."""
    from jobs.prices import apply_prices, read_prices
    from jobs.session import spark_session

    read = read_prices(read_document(file), str(file))
    with errors.status("starting Spark ..."):
        apply_prices(spark_session(settings), settings.warehouse_dir, read)
    output.print(f"{len(read)} prices; hours that are priced already keep theirs, until `sluice cost --reprice`", highlight=False)


@with_settings("data", "warehouse")
def cost(
    settings: Settings,
    by: Annotated[
        list[str] | None, typer.Option("--by", envvar="SLUICE_BY", help="endpoint, entity, model, user, hour, day, month, or a tag's key")
    ] = None,
    since: Annotated[datetime | None, typer.Option("--since", envvar="SLUICE_SINCE", help="UTC; 30 days ago unless given")] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", envvar="SLUICE_UNTIL", help="UTC, the hour not included; now unless given")
    ] = None,
    reprice: Annotated[
        bool, typer.Option("--reprice", envvar="SLUICE_REPRICE", help="price the period at the present list prices; shows the difference")
    ] = False,
) -> None:
    """What the requests of a period cost."""
    from jobs.costs import Costs
    from jobs.session import spark_session

    end = _utc(until) if until else datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    start = _utc(since) if since else end - timedelta(days=DAYS_BACK)
    if start >= end:
        raise CommandFailed(f"--since {start:%Y-%m-%d %H:%M} is not before --until {end:%Y-%m-%d %H:%M}")
    with errors.status("starting Spark ...") as status:
        costs = Costs(spark_session(settings), settings.warehouse_dir)
        status.update("pricing ...")
        differences = costs.reprice(start, end) if reprice else []
        if not reprice:
            costs.refresh()
        names = by or ["model"]
        rows = _sums(costs, names, start, end)
    if reprice:
        changed = [(str(d.model or "no model"), f"{d.before:f}", f"{d.after:f}", f"{d.after - d.before:+f}") for d in differences]
        if start < costs.frozen_before:
            output.print(f"hours before {costs.frozen_before:%Y-%m-%d %H:%M} keep their costs: their usage is deleted", highlight=False)
        print_table(("model", "before", "after", "difference"), changed, title="priced again")
    cells = [tuple([str(cell or "-") for cell in row[: len(names)]] + [_figure(cell) for cell in row[len(names) :]]) for row in rows]
    print_table((*names, *FIGURES), cells, texts=len(names), title=f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    unpriced = sum(row.unpriced for row in rows)
    if unpriced:
        output.print(f"{unpriced:,} requests have no price: their costs are in no sum; see `sluice prices apply`", highlight=False)


def _sums(costs: Costs, by: list[str], start: datetime, end: datetime) -> list[Row]:
    """One row for each value of what is asked by: these values, then FIGURES."""
    from pyspark.sql import functions as F

    rows = costs.table.read().where((F.col("hour") >= F.lit(start)) & (F.col("hour") < F.lit(end)))
    keys = [F.expr(TIMES[name]) if name in TIMES else F.col(COLUMNS[name]) if name in COLUMNS else F.col("tags")[name] for name in by]
    sums = rows.groupBy(*[key.cast("string").alias(str(i)) for i, key in enumerate(keys)]).agg(
        F.sum("requests"), F.sum("input_tokens"), F.sum("output_tokens"), F.sum("unpriced_requests").alias("unpriced"), F.sum("cost")
    )  # fmt: skip
    return sums.orderBy(*[str(i) for i in range(len(by))]).collect()


def _figure(cell: Any) -> str:
    return "-" if cell is None else f"{cell:,}" if isinstance(cell, int) else f"{cell:,.6f}"


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
