"""Strict JSON in, compact JSON out.

`parse` refuses what JSON readers tend to let through and what breaks something later: duplicate keys (two readers see two
requests), NaN and Infinity, numbers beyond a double, lone surrogates (they can't be written as UTF-8), bytes after the
document, nesting deeper than 200. It fails with InvalidParameter, whose message says what and where.
"""

from __future__ import annotations

from typing import Any

import jiter
import orjson

from pipeline.errors import InvalidParameter


def parse(data: bytes, what: str = "the body") -> Any:
    """The value that `data` (UTF-8 bytes) holds; InvalidParameter where it is not strict JSON."""
    try:
        # jiter finds duplicate keys and limits the depth, orjson refuses numbers that are no finite double.
        jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="none")
        return orjson.loads(data)
    except ValueError as exc:
        raise InvalidParameter(f"{what} is not valid JSON: {exc}") from None


def parse_object(data: bytes, what: str = "the body") -> dict[str, Any]:
    """As `parse`, and the value must be an object."""
    value = parse(data, what)
    if not isinstance(value, dict):
        raise InvalidParameter(f"{what} must be a JSON object, not {type(value).__name__}")
    return value


def dump(value: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return orjson.dumps(value)


def dump_text(value: Any) -> str:
    """Compact JSON as text, for the columns of the tables."""
    return orjson.dumps(value).decode()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys: two bodies are the same body exactly where these bytes are equal."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
