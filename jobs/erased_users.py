"""`system.internal.erasures`: which users were erased, until when, without their names.

A user is known by a pseudonym, the keyed hash (HMAC-SHA256) of the name. The key is random, lies in DATA/erasure-key for its owner only and
is in no table: who has the tables alone can't test a name against them. Records of such a user that come again from Kafka are known by
it (`among`). One writer, any number of threads that look up. Fails with ErasureKeyLost where there are erasures and no key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.delta import DeltaFolder
from pipeline.errors import InvalidParameter, SluiceError

NAME = ("system", "internal", "erasures")
COLUMNS = "pseudonym string, until_ms long, done_ms long, files_gone_ms long"
PREFIX, HASH_CHARS = "erased-", 32
MAX_NAME_CHARS = 256


class ErasureKeyLost(SluiceError):
    """Users were erased, and the key that knows them is gone."""


@dataclass(frozen=True)
class Erasure:
    """One erased user. What was asked up to `until_ms` is erased; `done_ms`: when all tables were; `files_gone_ms`: and their old files."""

    pseudonym: str
    until_ms: int
    done_ms: int | None = None
    files_gone_ms: int | None = None


class ErasedUsers:
    """The table and the key; neither is made before the first erasure."""

    def __init__(self, spark: SparkSession, warehouse: Path, data: Path) -> None:
        self._table = DeltaFolder(spark, warehouse.joinpath(*NAME))
        self._key_file = data / "erasure-key"
        rows = self._table.read().collect() if self._table.exists() else []
        self._known = {row.pseudonym: Erasure(*row) for row in rows}
        self._key = self._key_file.read_bytes() if self._key_file.exists() else b""
        if self._known and not self._key:
            raise ErasureKeyLost(
                f"users were erased, and the key that knows them, {self._key_file}, is gone: put it back, or, where it is lost, "
                f"remove {self._table.path} and run `sluice forget` again for each of them"
            )

    @property
    def all(self) -> list[Erasure]:
        """All of them, in no order."""
        return list(self._known.values())

    @property
    def newest_until_ms(self) -> int:
        """What came later than this is nobody's who was erased; -1 where nobody was."""
        return max((erasure.until_ms for erasure in self._known.values()), default=-1)

    def among(self, names: Iterable[str]) -> dict[str, Erasure]:
        """Which of these names are those of erased users."""
        known = self._known
        hashes = {name: self._pseudonym(name) for name in names} if known else {}
        return {name: known[pseudonym] for name, pseudonym in hashes.items() if pseudonym in known}

    def begin(self, name: str, now_ms: int) -> Erasure:
        """Note durably that this user is erased until now. Raises InvalidParameter for what is no user's name."""
        if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise InvalidParameter(f"{name!r} is no name of a user: 1 to {MAX_NAME_CHARS} characters that can be printed")
        if re.fullmatch(f"{PREFIX}[0-9a-f]{{{HASH_CHARS}}}", name):
            raise InvalidParameter(f"{name} is the pseudonym of somebody who is erased already")
        if not self._key:
            self._make_key()
        erasure = Erasure(self._pseudonym(name), now_ms)
        self._keep(erasure)
        return erasure

    def done(self, erasure: Erasure, now_ms: int) -> None:
        """No table names the user any more."""
        self._keep(replace(erasure, done_ms=now_ms))

    def files_gone(self, erasure: Erasure, now_ms: int) -> None:
        """Nor does an old file of one."""
        self._keep(replace(erasure, files_gone_ms=now_ms))

    def _keep(self, erasure: Erasure) -> None:
        known = {**self._known, erasure.pseudonym: erasure}
        self._table.create(self._table.spark.createDataFrame([], COLUMNS).schema, ("until_ms",))
        rows = self._table.spark.createDataFrame([astuple(e) for e in known.values()], COLUMNS)
        rows.coalesce(1).write.format("delta").mode("overwrite").save(str(self._table.path))
        self._known = known

    def _pseudonym(self, name: str) -> str:
        return PREFIX + hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:HASH_CHARS]

    def _make_key(self) -> None:
        key = secrets.token_hex(32).encode()
        self._key_file.parent.mkdir(parents=True, exist_ok=True)
        # Known by no table yet, so a file that a crash has left half-written is of no use to anybody.
        temporary = self._key_file.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(key)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self._key_file)
        self._key = key
