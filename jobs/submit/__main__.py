"""Prints what stands between the cluster's own options and the command in a call of spark-submit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobs.catalog import catalog_jar
from jobs.session import QUIET
from pipeline.errors import SluiceError
from pipeline.stack.jars import spark_jars

SCRIPT = Path(__file__).parent / "sluice.py"


def arguments() -> list[str]:
    """The options and the script. Raises SluiceError where a shell would take one of them for two."""
    jars = ",".join(str(jar) for jar in [*spark_jars(), catalog_jar()])
    python = os.environ.get("PYSPARK_PYTHON", sys.executable)
    settings = [f"spark.pyspark.python={python}", f"spark.driver.defaultJavaOptions={QUIET}"]
    words = [*(word for setting in settings for word in ("--conf", setting)), "--jars", jars, str(SCRIPT)]
    for word in words:
        if any(c.isspace() for c in word):
            raise SluiceError(f"a shell would split this path at its space: {word}; install Sluice, or its jars (SLUICE_JARS), elsewhere")
    return words


if __name__ == "__main__":
    try:
        print(*arguments())
    except SluiceError as exc:
        sys.exit(f"jobs.submit: {exc.message}")
