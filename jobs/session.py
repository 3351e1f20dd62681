"""Spark as Sluice uses it: Delta, UTC, little memory, local jars only, and the tables by their three-part names.

Every folder of the warehouse is a catalog of the session, those that appear later too; no service has to run.
Fails with JavaMissing or JarsUnavailable.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from pyspark import SparkContext
from pyspark.sql import SparkSession

from jobs.catalog import catalog_jar
from pipeline.settings import Settings
from pipeline.stack.jars import find_java, spark_jars

# Read by sluice.WarehouseExtension before each query.
WAREHOUSE = "spark.sluice.warehouse"
# Micro-batches are many small jobs: compiling code for each costs more than it saves (0.7 instead of 0.9 s an append).
# So does planning a query anew while it runs.
MICRO_BATCHES = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
# The JVM's second compiler takes up to a third of a core for minutes, for methods that never run often enough to pay for it: its
# thresholds, twenty times as high as the defaults, leave the hot ones.
COMPILE_LATER = (
    "-XX:Tier4InvocationThreshold=100000 -XX:Tier4MinInvocationThreshold=12000 -XX:Tier4CompileThreshold=300000 "
    "-XX:Tier4BackEdgeThreshold=800000"
)


def spark_session(
    settings: Settings | None = None, *, master: str = "local[2]", driver_memory: str = "1g", micro_batches: bool = False
) -> SparkSession:
    """A SparkSession on the settings' warehouse; `micro_batches` tunes it for the table job instead of for queries.

    A process has one JVM, whose `master` and `driver_memory` are those of the first call; each warehouse has a session of its own.
    """
    settings = settings or Settings()  # type: ignore[call-arg]  # from the environment and the defaults
    warehouse = settings.warehouse_dir
    warehouse.mkdir(parents=True, exist_ok=True)
    running = SparkSession.builder.getOrCreate() if SparkContext._active_spark_context else None
    spark = running or _start(warehouse, master, driver_memory)
    if running and (micro_batches or running.conf.get(WAREHOUSE) != str(warehouse)):
        # The JVM is there: a session of its own, with its own warehouse.
        spark = running.newSession()
        spark.conf.set(WAREHOUSE, str(warehouse))
    for key, value in MICRO_BATCHES.items() if micro_batches else ():
        spark.conf.set(key, value)
    return spark


def _start(warehouse: Path, master: str, driver_memory: str) -> SparkSession:
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Python functions run in this environment, which has what they import, unless someone says otherwise.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # pyspark starts Java by JAVA_HOME or the PATH; this makes it the one whose version was looked at.
    os.environ["JAVA_HOME"] = str(find_java().resolve().parent.parent)
    # pyspark logs every wrong query with the whole Java stack; whoever runs the query gets the exception.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    builder = SparkSession.builder.appName("sluice").master(master)
    for key, value in _configuration(warehouse, driver_memory).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _configuration(warehouse: Path, driver_memory: str) -> dict[str, str]:
    classpath = ":".join(str(p) for p in [*spark_jars(), catalog_jar()])
    log_settings = (Path(__file__).parent / "log4j2.properties").as_uri()
    return {
        WAREHOUSE: str(warehouse),
        "spark.driver.memory": driver_memory,
        "spark.driver.extraClassPath": classpath,
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Dlog4j2.configurationFile={log_settings} -XX:+UseSerialGC {COMPILE_LATER}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension,sluice.WarehouseExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Where a table without a catalog in its name would go; nothing of ours does.
        "spark.sql.warehouse.dir": str(warehouse / ".spark"),
        "spark.sql.catalogImplementation": "in-memory",
        # Queries beside the table job's batches (sql_server.py): each side gets its share.
        "spark.scheduler.mode": "FAIR",
        "spark.sql.shuffle.partitions": "2",
        "spark.default.parallelism": "2",
        # Delta splits its own bookkeeping into 50 tasks unless told otherwise.
        "spark.databricks.delta.snapshotPartitions": "1",
        # Compaction leaves files alone that are big enough, so that none is rewritten again and again.
        "spark.databricks.delta.optimize.minFileSize": str(32 * 1024 * 1024),
        "spark.databricks.delta.optimize.maxFileSize": str(128 * 1024 * 1024),
        # VACUUM lists a table's folder with this many tasks, ten thousand unless told otherwise.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        # Rows may hold megabytes of text: what is buffered before it is written is bounded in bytes, which Parquet looks at every few rows
        # (every hundred to ten thousand unless told otherwise: pages of a hundred megabytes, which nobody could read in this heap).
        "spark.hadoop.parquet.block.size": str(32 * 1024 * 1024),
        "spark.hadoop.parquet.page.size.row.check.min": "4",
        "spark.hadoop.parquet.page.size.row.check.max": "16",
        "spark.sql.parquet.columnarReaderBatchSize": "512",
    }
