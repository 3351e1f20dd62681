"""What the tables' aggregates must come to, in plain Python: Spark counts nothing here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Rows = list[dict[str, Any]]


def utc(value: datetime) -> datetime:
    """pyspark hands times out in the machine's own zone, without saying so."""
    return value.astimezone(UTC)


def percentile(values: list[int], share: float) -> float:
    """Between the two nearest ranks, as far as the share lies between them."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def grouped(rows: Rows, key: Callable[[dict[str, Any]], Any]) -> dict[Any, Rows]:
    """The rows of each key."""
    groups: dict[Any, Rows] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def total(rows: Rows, *names: str) -> int:
    """The sum of these columns over all rows."""
    return sum(row[name] for row in rows for name in names)


def hour_key(row: dict[str, Any], at: datetime) -> tuple[Any, ...]:
    """What usage_hourly has one row for."""
    hour = utc(at).replace(minute=0, second=0, microsecond=0)
    return hour, row["endpoint_name"], row["served_entity_name"], row["requester"], tuple(sorted(row["tags"].items()))


def hourly(usage: Rows) -> dict[tuple[Any, ...], dict[str, Any]]:
    """usage_hourly's figures, from the rows of endpoint_usage."""
    figures = {}
    for key, rows in grouped(usage, lambda row: hour_key(row, row["request_time"])).items():
        times = [row["execution_time_ms"] for row in rows]
        figures[key] = {
            "requests": len(rows),
            "input_tokens": total(rows, "input_token_count"),
            "output_tokens": total(rows, "output_token_count"),
            "avg_latency_ms": sum(times) / len(times),
            "p95_latency_ms": percentile(times, 0.95),
            "errors": sum(row["status_code"] >= 400 for row in rows),
            "rate_limited": sum(row["status_code"] == 429 for row in rows),
            "blocked": sum(row["finish"] == "blocked" for row in rows),
        }
    return figures
