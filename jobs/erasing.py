"""What erasing a user changes in a row: the same for rows of every table, and for those that are about to land.

A row is the user's where its `requester` is, or a value of its `usage_context` (an application names there for whom it asks), and so are
the findings about such a request, which don't say for whom it was asked. Its texts go, its name becomes the pseudonym, and all that is
counted stays as it is. A dead letter is theirs where its bytes hold the name as a JSON string, or at all where it is an address: then
the bytes go. What comes after `until_ms` is not touched. Pure expressions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StructType

from jobs.erased_users import MAX_NAME_CHARS, ErasedUsers, Erasure
from jobs.retention import TIMES, time_column

# The columns that hold the name of a person, whatever the table.
PERSONS = ("requester", "created_by")
TEXTS = ("request", "response")
# Says in `logging_error_codes` why a text is missing.
CODE = "ERASED"


@dataclass(frozen=True)
class User:
    """Whose rows, as columns. `signs`: the bytes by which a dead letter is known as theirs; `asked`: ids of requests made for them."""

    name: Column
    pseudonym: Column
    until_ms: Column
    signs: Column
    asked: Column

    @classmethod
    def literal(cls, name: str, erasure: Erasure, asked: Iterable[str] = ()) -> User:
        """As constants: never for a commit, whose condition a table's history keeps."""
        found = F.array(*[F.lit(sign) for sign in signs(name)])
        ids = F.from_json(F.lit(json.dumps(list(asked))), "array<string>")
        return cls(F.lit(name), F.lit(erasure.pseudonym), F.lit(erasure.until_ms), found, ids)


def signs(name: str) -> list[bytes]:
    """What stands in the bytes of a dead letter that names this user."""
    quoted = {json.dumps(name, ensure_ascii=ascii_only).encode() for ascii_only in (False, True)}
    return sorted(quoted | ({name.encode()} if "@" in name else set()))


def names_users(schema: StructType) -> bool:
    """Whether rows of such a table may name a user."""
    return any(name in schema.fieldNames() for name in PERSONS) or has_bytes(schema)


def has_bytes(schema: StructType) -> bool:
    """Whether these are dead letters, or may be."""
    return "reason" in schema.fieldNames() and any(f.name == "value" and f.dataType == BinaryType() for f in schema.fields)


def is_findings(schema: StructType) -> bool:
    """Whether a row of such a table is a finding about a request."""
    return {"request_id", "assessment_details"} <= set(schema.fieldNames())


def erasing(schema: StructType, user: User, prefix: str = "") -> tuple[Column, dict[str, Column]]:
    """Which rows of such a table are the user's, and what then becomes of their columns. `prefix`: the table's alias with its dot."""
    there = set(schema.fieldNames())
    found = list(_signs_of(schema, user, prefix))
    time = time_column(schema)
    is_theirs = reduce(lambda a, b: a | b, [F.coalesce(sign, F.lit(False)) for sign in found], F.lit(False))
    if time is not None:
        is_theirs = is_theirs & F.coalesce(TIMES[time](prefix + time) <= user.until_ms, F.lit(True))
    return is_theirs, {name: value for name, value in _erased(user, prefix).items() if name in there}


def _signs_of(schema: StructType, user: User, prefix: str) -> Iterator[Column]:
    names = schema.fieldNames()
    for person in PERSONS:
        if person in names:
            yield F.col(prefix + person) == user.name
    if "usage_context" in names:
        yield F.array_contains(F.map_values(prefix + "usage_context"), user.name)
    elif is_findings(schema):
        yield F.array_contains(user.asked, F.col(prefix + "request_id"))
    if has_bytes(schema):
        for part in ("key", "value"):
            yield F.col(prefix + "reason").isNotNull() & _held(F.col(prefix + part), user)


def _held(content: Column, user: User) -> Column:
    return F.exists(user.signs, lambda sign: F.contains(content, sign))


def _erased(user: User, prefix: str) -> dict[str, Column]:
    def at(name: str) -> Column:
        return F.col(prefix + name)

    def unnamed(value: Column, instead: Column) -> Column:
        return F.when(F.contains(value, user.name), instead).otherwise(value)

    nothing = F.lit(None)
    return {
        **{person: F.when(at(person) == user.name, user.pseudonym).otherwise(at(person)) for person in PERSONS},
        **{text: nothing.cast("string") for text in TEXTS},
        "client_request_id": unnamed(at("client_request_id"), nothing),
        "usage_context": F.transform_values(at("usage_context"), lambda _, value: unnamed(value, user.pseudonym)),
        # A provider's words may repeat the prompt's.
        "attempts": F.transform(at("attempts"), lambda attempt: attempt.withField("error", nothing.cast("string"))),
        "assessment_details": F.lit("{}"),
        "assessments": F.transform(at("assessments"), lambda found: found.withField("assessment_details", F.lit("{}"))),
        "logging_error_codes": F.array_union(at("logging_error_codes"), F.array(F.lit(CODE))),
        "key": nothing.cast("binary"),
        "value": nothing.cast("binary"),
    }


def erased(rows: DataFrame, users: ErasedUsers) -> DataFrame:
    """`rows`, which are about to land, without what was erased before and comes again."""
    old = rows.where(F.col("timestamp_ms") <= users.newest_until_ms)
    # All that stands between two quotation marks, without a look at which of them belong together.
    quoted = F.regexp_extract_all(F.col("value").cast("string"), F.lit(f'"([^"]{{1,{6 * MAX_NAME_CHARS}}}+)(?=")'), F.lit(1))
    of_bytes = F.array_append(F.coalesce(quoted, F.array().cast("array<string>")), F.col("key").cast("string"))
    names = F.when(F.col("reason").isNotNull(), of_bytes).otherwise(F.array_append(F.map_values("usage_context"), F.col("requester")))
    candidates = [row[0] for row in old.select(F.explode(names)).distinct().collect() if row[0]]
    for name, erasure in users.among({*candidates, *map(_unescaped, candidates)}).items():
        is_theirs, changes = erasing(rows.schema, User.literal(name, erasure))
        rows = rows.withColumns({column: F.when(is_theirs, value).otherwise(F.col(column)) for column, value in changes.items()})
    return rows


def _unescaped(text: str) -> str:
    try:
        read = json.loads(f'"{text}"')
    except ValueError:
        return text
    return str(read)


def without_creator(endpoint: bytes, users: ErasedUsers) -> bytes | None:
    """An endpoint's configuration with its creator's pseudonym; None where that is nobody who was erased since."""
    read = json.loads(endpoint)
    erasure = users.among([read["creator"]]).get(read["creator"])
    if erasure is None or read["creation_timestamp"] > erasure.until_ms:
        return None
    return json.dumps({**read, "creator": erasure.pseudonym}).encode()
