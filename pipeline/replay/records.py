"""A logged request that is to be sent again, and what came of it: one line of JSON each in the replay's folder.

Declares, decides nothing. `place` is the request's number in its replay: it ties the two together.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

# Why a row can't be sent again.
Skipped = Literal["without text", "unreadable", "of another task"]


class Original(BaseModel):
    """`request` is the body to send, `answer` the text of the answer that was delivered then (None: none was, or it is not kept).

    `guardrails`: what they found, as comparing.findings tells it. `masked`: personal data in it was masked before it was logged.
    """

    place: int
    request_id: str
    timestamp_ms: int
    endpoint_name: str | None
    model: str | None
    request: str
    answer: str | None
    status_code: int
    execution_time_ms: int
    input_tokens: int
    output_tokens: int
    guardrails: list[str]
    masked: bool


class Result(BaseModel):
    """`request_id` is the new request's, `similarity` (0 to 1) that of the two answers' texts, None where one has no text.

    `error_code` None: an answer was delivered. `execution_time_ms` None: the ingress refused the request, no worker saw it.
    """

    place: int
    request_id: str
    replayed_ms: int
    status_code: int
    error_code: str | None
    served_entity: str | None
    execution_time_ms: int | None
    input_tokens: int
    output_tokens: int
    guardrails: list[str]
    similarity: float | None
