"""How far a table has come: the newest landed batch that it holds, as its own log has it.

The log is asked once, and again before the write that follows a failed one: a commit may have come through although it looked failed, and
to write its rows again would double them. Fails only where `before_write` says so.
"""

from __future__ import annotations

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from jobs.delta import DeltaFolder


class Progress:
    """Of one table; `app_id`: the landing table whose batches are counted."""

    def __init__(self, table: DeltaFolder, app_id: str) -> None:
        self._table, self._app_id = table, app_id
        self._known: int | None = None
        self._in_doubt = False

    @property
    def known(self) -> int:
        """The newest batch that the table is known to hold, without a look at its log: -1 where it has not been asked."""
        return -1 if self._known is None else self._known

    @property
    def reached(self) -> int:
        """The newest batch the table holds for sure; -1 for none, and where its log can't be read."""
        if self._known is None:
            try:
                self._known = self._ask()
            except (PySparkException, Py4JJavaError):
                return -1
        return self._known

    def before_write(self) -> int:
        """The same, asked again where it is in doubt; in doubt from now on until `done`. Raises what Spark raises."""
        if self._in_doubt or self._known is None:
            self._known = self._ask()
        self._in_doubt = True
        return self._known

    def done(self, high: int) -> None:
        """The table holds everything up to this batch."""
        self._known, self._in_doubt = high, False

    def _ask(self) -> int:
        return self._table.transaction(self._app_id) if self._table.exists() else -1
