"""`sluice dashboard`: the batch job behind the dashboard. From the tables, figures for the last days, each as a Delta table of its own.

    system.serving.dashboard_hourly      the specification's dashboard query over all inference tables, with what came of the requests
    system.serving.dashboard_endpoints   the same for each endpoint, with its cost
    system.serving.dashboard_entities    how many answers each served entity gave
    system.serving.dashboard_users       who asked most
    system.serving.dashboard_tags        requests, tokens and cost for each value of each tag
    system.serving.dashboard_findings    how often which guardrail found something
    system.serving.dashboard_reviews     what was blocked or masked last, for people to look at; never the text
    system.serving.dashboard_unpriced    how many requests have no price, and so are in no cost

dashboard.sql has the queries. Each run puts its figures in the place of the last run's. Requests come from inference tables, tokens and
cost by tag from endpoints with usage tracking. dashboard_page.py draws them. Fails with whatever Spark raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from jobs.costs import Costs
from jobs.delta import DeltaFolder, tables_in
from jobs.name_lock import copying_names
from jobs.schemas import ASSESSMENT, REQUEST_RESPONSE
from jobs.targets import PROPERTIES

SERVING = ("system", "serving")
QUERIES = Path(__file__).parent / "dashboard.sql"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Figures:
    """All figures of one run: the rows of each dashboard table by the last part of its name, and where they come from."""

    days: int
    tables: dict[str, Rows]
    inference_tables: int


def run(spark: SparkSession, warehouse: Path, days: int) -> Figures:
    """Compute all figures of the last `days` days, write their tables, and return their rows."""
    with copying_names(warehouse):
        return _run(spark, warehouse, days)


def _run(spark: SparkSession, warehouse: Path, days: int) -> Figures:
    costs = Costs(spark, warehouse)
    costs.refresh()
    requests = _all(spark, warehouse, "_request_response", _empty(spark, REQUEST_RESPONSE))
    # Without the texts: nothing here reads them, and they are most of the bytes.
    requests.drop("request", "response").createOrReplaceTempView("requests")
    _all(spark, warehouse, "_assessment", _empty(spark, ASSESSMENT)).createOrReplaceTempView("assessments")
    costs.table.read().createOrReplaceTempView("costs")
    tables = {name: _kept(spark, warehouse, name, query, days) for name, query in queries().items()}
    return Figures(days, tables, len(tables_in(warehouse, "_request_response")))


def queries() -> dict[str, str]:
    """The queries of dashboard.sql by their names."""
    _, *parts = re.split(r"^-- name: (\w+)\n", QUERIES.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _kept(spark: SparkSession, warehouse: Path, name: str, query: str, days: int) -> Rows:
    """Write a query's rows as their table, and read them back from there."""
    table = DeltaFolder(spark, warehouse.joinpath(*SERVING, f"dashboard_{name}"))
    # Put in as text, since a parameter does not get through to Delta's parser.
    rows = spark.sql(query.replace(":days", str(int(days))))
    # Without statistics: some would be users' names, in the table's log.
    table.create(rows.schema, (), PROPERTIES)
    rows.coalesce(1).write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(str(table.path))
    read = table.read()
    # As text, in UTC: Python would turn times into the machine's zone.
    times = [F.date_format(f.name, "yyyy-MM-dd HH:mm:ss").alias(f.name) if f.dataType == TimestampType() else f.name for f in read.schema]
    return [row.asDict() for row in read.select(*times).collect()]


def _all(spark: SparkSession, warehouse: Path, suffix: str, empty: DataFrame) -> DataFrame:
    tables = [DeltaFolder(spark, warehouse.joinpath(*name)).read() for name in tables_in(warehouse, suffix)]
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), tables, empty)


def _empty(spark: SparkSession, schema: Any) -> DataFrame:
    return spark.createDataFrame([], schema)
