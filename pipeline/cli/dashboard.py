"""`sluice dashboard`: compute the dashboard's figures, write their tables, and draw the page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.terminal import errors, output, with_settings
from pipeline.settings import Settings


@with_settings("data", "warehouse")
def dashboard(
    settings: Settings,
    days: Annotated[int, typer.Option("--days", envvar="SLUICE_DAYS", min=1, max=366, help="how many days back, beside today")] = 7,
    out: Annotated[
        Path | None, typer.Option("--out", envvar="SLUICE_OUT", help="where the page goes; what the ingress serves unless given")
    ] = None,
) -> None:
    """Make the dashboard anew: its Delta tables, and a page that needs no network."""
    from jobs.dashboard import run
    from jobs.dashboard_page import page
    from jobs.session import spark_session

    with errors.status("starting Spark ...") as status:
        spark = spark_session(settings)
        status.update("computing ...")
        figures = run(spark, settings.warehouse_dir, days)
    file = out or settings.dashboard_file
    file.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: somebody may be reading it.
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(page(figures, datetime.now(UTC)), encoding="utf-8")
    temporary.replace(file)
    output.print(f"the page: {file}; the figures: system.serving.dashboard_*", markup=False, highlight=False)
