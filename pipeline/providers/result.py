"""What one call of one served entity came to. Plain data, so that core/routing.py can decide on it without knowing HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Failure(StrEnum):
    """Whose fault a failed call was, which decides whether the next served entity is asked."""

    CLIENT = "client"
    RATE_LIMITED = "rate_limited"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class ProviderResult:
    """`status_code` of the provider's HTTP answer, 0 where none came; `body` in OpenAI's shape, on success only.

    `error` is one line that may be shown and kept: no secrets, at most 500 characters. Tokens are never negative.
    """

    status_code: int
    body: dict[str, Any] | None = None
    failure: Failure | None = None
    error: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    served_model_name: str | None = None
    retry_after_s: int | None = None
