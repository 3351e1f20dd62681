"""A row of an inference table as a request that can be sent again, or the reason why it can't.

What is sent is the logged text: personal data that was masked stays masked. A stream is asked for as a whole answer, and `model` is left
out, since the path names the endpoint. Pure; never fails, whatever stands in the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import json_text
from pipeline.errors import InvalidParameter
from pipeline.replay.comparing import findings, text_of
from pipeline.replay.records import Original, Skipped

# What a request of each task must have; the tables don't name the task.
FIELD_OF_TASK = {"llm/v1/chat": "messages", "llm/v1/completions": "prompt", "llm/v1/embeddings": "input"}
LEFT_OUT = ("stream", "stream_options", "model")


def prepared(row: Mapping[str, Any], place: int, task: str) -> Original | Skipped:
    """`row` holds columns of the inference table, and `model`, whose price counts."""
    if row["request"] is None:
        return "without text"
    body = _object(row["request"])
    if body is None:
        return "unreadable"
    if FIELD_OF_TASK[task] not in body:
        return "of another task"
    for name in LEFT_OUT:
        body.pop(name, None)
    answer = _object(row["response"]) if row["status_code"] == 200 and row["response"] is not None else None
    found = findings(row["guardrails"])
    return Original(
        place=place,
        request_id=row["request_id"],
        timestamp_ms=row["timestamp_ms"],
        endpoint_name=row["endpoint_name"],
        model=row["model"],
        request=json_text.dump_text(body),
        answer=None if answer is None else text_of(answer),
        status_code=row["status_code"] or 0,
        execution_time_ms=row["execution_time_ms"] or 0,
        input_tokens=row["input_tokens"] or 0,
        output_tokens=row["output_tokens"] or 0,
        guardrails=found,
        masked="input PII masked" in found,
    )


def _object(text: str) -> dict[str, Any] | None:
    try:
        return json_text.parse_object(text.encode())
    except (InvalidParameter, UnicodeEncodeError):
        return None
