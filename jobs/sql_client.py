"""Asks the running table job (sql_server.py) for a query's rows, or to erase a user; imports no Spark, so that it is quick.

`ask` and `forget` return None where no table job of this data folder and warehouse answers.
"""

from __future__ import annotations

import json
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import InvalidParameter, SluiceError
from pipeline.settings import Settings

Output = Literal["table", "csv", "json"]


class QueryFailed(InvalidParameter):
    """The query is wrong, or could not be run."""


class ErasureFailed(SluiceError):
    """The user was not erased everywhere."""


def server_file(data: Path) -> Path:
    """Where the server says how it is reached."""
    return data / "status" / "sql.json"


def ask(query: str, settings: Settings, output: Output) -> str | None:
    """The results as text; None where nobody answers. Raises QueryFailed where the query is wrong, or the job ends meanwhile."""
    try:
        answer = _exchange({"query": query, "output": output}, settings)
    except EOFError:
        raise QueryFailed("the table job ended before it had answered; ask again") from None
    if answer is None:
        return None
    if "error" in answer:
        raise QueryFailed(answer["error"])
    text: str = answer["text"]
    return text


def forget(user: str, settings: Settings) -> dict[str, Any] | None:
    """What was erased, as jobs.forget.Forgotten has it; None where nobody answers. Raises ErasureFailed."""
    try:
        answer = _exchange({"forget": user}, settings)
    except EOFError:
        raise ErasureFailed("the table job ended before all was erased; run it again") from None
    if answer and "error" in answer:
        raise ErasureFailed(answer["error"])
    return answer


def _exchange(asked: dict[str, str], settings: Settings) -> dict[str, Any] | None:
    """The job's answer; None where there is none to ask. Raises EOFError where the job ends meanwhile."""
    try:
        told = json.loads(server_file(settings.data).read_text(encoding="utf-8"))
        if told["warehouse"] != str(settings.warehouse_dir):
            return None
        connection = Client(("127.0.0.1", told["port"]), "AF_INET", authkey=bytes.fromhex(told["key"]))
    except (OSError, EOFError, ValueError, KeyError, AuthenticationError):
        return None
    with connection:
        try:
            connection.send_bytes(json.dumps(asked).encode())
            answer: dict[str, Any] = json.loads(connection.recv_bytes())
        except OSError as exc:
            raise EOFError from exc
    return answer
