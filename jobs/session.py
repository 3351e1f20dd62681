"""Spark as Sluice uses it: Delta, UTC, little memory, local jars only, and the tables by their three-part names.

Every folder of the warehouse is a catalog of the session, those that appear later too; no service has to run. In a program that
spark-submit has started, what was submitted wins: master, memory, addresses and all settings that change nothing in the tables.
Fails with JavaMissing or JarsUnavailable, and with SluiceError where spark-submit was not told of the jars.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from py4j.java_gateway import JavaClass
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from jobs.catalog import catalog_jar
from pipeline.errors import SluiceError
from pipeline.settings import Settings
from pipeline.stack.jars import find_java, spark_jars

# Read by sluice.WarehouseExtension before each query.
WAREHOUSE = "spark.sluice.warehouse"
# Options of every JVM. Times are UTC there too; and what Spark logs of its own would tell values from queries.
UTC = "-Duser.timezone=UTC"
QUIET = f"-Dlog4j2.configurationFile={(Path(__file__).parent / 'log4j2.properties').as_uri()}"
EXTENSIONS = "spark.sql.extensions"
COMPILE_QUERIES = "spark.sql.codegen.factoryMode"
# Micro-batches are many small jobs: compiling code for each costs more than it saves (0.7 instead of 0.9 s an append).
# So does planning a query anew while it runs.
MICRO_BATCHES = {
    "spark.sql.codegen.wholeStage": "false",
    COMPILE_QUERIES: "NO_CODEGEN",
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
    # Python functions run in this environment, which has what they import, unless someone says otherwise.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # pyspark logs every wrong query with the whole Java stack; whoever runs the query gets the exception.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    builder = SparkSession.builder
    # spark-submit has started the JVM, and tells this process where it listens.
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        configuration = _beside_what_was_submitted(_configuration(warehouse))
    else:
        builder = builder.appName("sluice").master(master)
        configuration = {**_configuration(warehouse), **_on_this_machine(driver_memory)}
    for key, value in configuration.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _on_this_machine(driver_memory: str) -> dict[str, str]:
    """What only a JVM of our own has: it runs on this machine alone and is started with these options."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # pyspark starts Java by JAVA_HOME or the PATH; this makes it the one whose version was looked at.
    os.environ["JAVA_HOME"] = str(find_java().resolve().parent.parent)
    return {
        "spark.driver.memory": driver_memory,
        "spark.driver.extraClassPath": ":".join(str(p) for p in [*spark_jars(), catalog_jar()]),
        "spark.driver.extraJavaOptions": f"{UTC} {QUIET} -XX:+UseSerialGC {COMPILE_LATER}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.default.parallelism": "2",
        # From the class path: an executor elsewhere needs a file system before it has our jars.
        "spark.hadoop.fs.file.impl": "sluice.LocalFiles",
        "spark.hadoop.fs.AbstractFileSystem.file.impl": "sluice.LocalFiles$Context",
    }


def _beside_what_was_submitted(ours: dict[str, str]) -> dict[str, str]:
    """What remains to be said: of what was submitted only that is changed on which the tables' names, places and times depend."""
    SparkContext._ensure_initialized()
    jvm: Any = SparkContext._jvm
    if not isinstance(jvm.sluice.WarehouseExtension, JavaClass):
        raise SluiceError("spark-submit was not told of Sluice's jars; use: spark-submit --master URL $(python -m jobs.submit) COMMAND")
    # The driver's JVM runs already.
    jvm.java.util.TimeZone.setDefault(jvm.java.util.TimeZone.getTimeZone("UTC"))
    given = dict(SparkConf().getAll())
    always = {
        **{key: ours[key] for key in (WAREHOUSE, "spark.sql.session.timeZone")},
        EXTENSIONS: ",".join([ours[EXTENSIONS], *filter(None, [given.get(EXTENSIONS)])]),
        "spark.executor.defaultJavaOptions": f"{UTC} {QUIET}",
        # Our paths are those of a file system that every machine mounts, whatever the cluster's own one is.
        "spark.hadoop.fs.defaultFS": "file:///",
    }
    return {key: value for key, value in ours.items() if key not in given} | always


def _configuration(warehouse: Path) -> dict[str, str]:
    return {
        WAREHOUSE: str(warehouse),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        EXTENSIONS: "io.delta.sql.DeltaSparkSessionExtension,sluice.WarehouseExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # Where a table without a catalog in its name would go; nothing of ours does.
        "spark.sql.warehouse.dir": str(warehouse / ".spark"),
        "spark.sql.catalogImplementation": "in-memory",
        # Queries beside the table job's batches (sql_server.py): each side gets its share.
        "spark.scheduler.mode": "FAIR",
        "spark.sql.shuffle.partitions": "2",
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
