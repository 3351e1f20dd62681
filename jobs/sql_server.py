"""Answers `sluice sql` from inside the table job, whose JVM is warm: a query takes as long as it takes, not ten seconds more. Takes
`sluice forget` too, which only the tables' one writer can do, and hands it to the job's own thread.

One session beside the job's own, on loopback. Who may ask is who can read DATA/status/sql.json,
which holds the port and a key made anew at each start. A result over MAX_RESULT_BYTES is refused, a client that goes away ends its
query. The heap is the job's all the same: a query that needs more of it on its way can end the job, which then starts again where it was.
Fails by being absent: `sluice sql` then starts its own Spark.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from jobs.delta import reason
from jobs.forget import Forgotten
from jobs.session import WAREHOUSE
from jobs.sql import run_in
from jobs.sql_client import Output, QueryFailed, server_file
from pipeline.errors import SluiceError
from pipeline.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
MAX_QUERY_BYTES = 1024 * 1024
MAX_RESULT_BYTES = 64 * 1024 * 1024


class SqlServer:
    """`start` after the session is there, `stop` before it ends."""

    def __init__(self, settings: Settings, spark: SparkSession, forget: Callable[[str], Forgotten]) -> None:
        self._settings, self._spark, self._forget = settings, spark.newSession(), forget
        # A new session begins with the settings of the JVM's start.
        self._spark.conf.set(WAREHOUSE, str(settings.warehouse_dir))
        self._key = secrets.token_bytes(32)
        self._listener = Listener(("127.0.0.1", 0), "AF_INET")
        self._stopping = False

    def start(self) -> None:
        """Listen, and say where."""
        threading.Thread(target=self._accept, name="sql", daemon=True).start()
        file = server_file(self._settings.data)
        file.parent.mkdir(parents=True, exist_ok=True)
        told = {"port": self._listener.address[1], "key": self._key.hex(), "warehouse": str(self._settings.warehouse_dir)}
        temporary = file.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(told, out)
        temporary.replace(file)

    def stop(self) -> None:
        """Take no more queries."""
        self._stopping = True
        server_file(self._settings.data).unlink(missing_ok=True)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection = self._listener.accept()
            except OSError as exc:
                if not self._stopping:
                    log.warning("a client of the SQL server could not connect: %r", exc)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="sql-client", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            try:
                # Here, so that a client which says nothing holds up no other.
                deliver_challenge(connection, self._key)
                answer_challenge(connection, self._key)
                asked = json.loads(connection.recv_bytes(MAX_QUERY_BYTES))
                answer = self._erase(asked["forget"]) if "forget" in asked else self._answer(connection, asked["query"], asked["output"])
                connection.send_bytes(json.dumps(answer).encode())
            except (OSError, EOFError, ValueError, KeyError, AuthenticationError) as exc:
                log.info("a client of the SQL server was refused, or has gone: %r", exc)

    def _erase(self, user: str) -> dict[str, Any]:
        """What was erased, or why it was not. It goes on where the client goes away."""
        try:
            return asdict(self._forget(user))
        except SluiceError as exc:
            return {"error": exc.message}
        except Exception as exc:
            return {"error": f"the erasure is not finished: {reason(exc)}"}

    def _answer(self, connection: Connection, query: str, output: Output) -> dict[str, str]:
        """The text, or what was wrong; the query runs in a thread of its own, so that it can be ended."""
        group, answer = f"sql-{uuid.uuid4()}", {"error": "the query was ended"}

        def work() -> None:
            context = self._spark.sparkContext
            context.setJobGroup(group, "sluice sql", interruptOnCancel=True)
            # Its own share of the cores, so that batches get theirs beside the longest query.
            context.setLocalProperty("spark.scheduler.pool", "sql")
            try:
                answer.update(text=run_in(self._spark, query, self._settings.warehouse_dir, output, MAX_RESULT_BYTES))
                del answer["error"]
            except QueryFailed as exc:
                answer["error"] = exc.message
            except Exception as exc:
                log.exception("a query failed")
                answer["error"] = f"the query failed: {type(exc).__name__}; the table job's log says more"

        thread = InheritableThread(target=work, name="sql-query", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_EVERY_S)
            # A client says nothing more; what can be read is its end.
            if thread.is_alive() and connection.poll(0):
                self._spark.sparkContext.cancelJobGroup(group)
                thread.join()
        return answer
