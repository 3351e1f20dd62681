"""Every way a request or a command can fail, in one tree, with the answer each one gets.

    SluiceError
    ├── InvalidParameter        400 INVALID_PARAMETER_VALUE   the caller's input is wrong
    │   ├── PayloadTooLarge     413
    │   └── UnsupportedMedia    415
    ├── GuardrailBlocked        400 BAD_REQUEST               a guardrail stopped the request or its answer
    ├── Unauthenticated         401 UNAUTHENTICATED
    ├── PermissionDenied        403 PERMISSION_DENIED
    ├── NotFound                404 RESOURCE_DOES_NOT_EXIST
    ├── AlreadyExists           409 RESOURCE_ALREADY_EXISTS
    ├── RateLimited             429 REQUEST_LIMIT_EXCEEDED    carries retry_after_s
    ├── Abandoned               499 CLIENT_CLOSED_REQUEST     the client went away; only rows show it
    ├── ProviderFailed          502 BAD_GATEWAY               every served entity failed
    ├── Unavailable             503 TEMPORARILY_UNAVAILABLE   carries retry_after_s
    └── DeadlineExceeded        504 DEADLINE_EXCEEDED

The codes are those of the contract, part 2. This module decides status and code and nothing else: which form the answer
takes (Databricks, OpenAI, Anthropic) is the ingress's, and what stands in a row is the record's.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SluiceError(Exception):
    """Base of all; `message` names the thing, the value and the remedy, and is shown to the caller as it stands."""

    status_code: ClassVar[int] = 500
    error_code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The error in Databricks' form, as it travels in answers and stands in rows."""
        return {"error_code": self.error_code, "message": self.message}


class InvalidParameter(SluiceError):
    status_code, error_code = 400, "INVALID_PARAMETER_VALUE"


class PayloadTooLarge(InvalidParameter):
    status_code = 413


class UnsupportedMedia(InvalidParameter):
    status_code = 415


class GuardrailBlocked(SluiceError):
    """`message` is the JSON text that databricks-api.md describes, with the `finishReason`."""

    status_code, error_code = 400, "BAD_REQUEST"


class Unauthenticated(SluiceError):
    status_code, error_code = 401, "UNAUTHENTICATED"


class PermissionDenied(SluiceError):
    status_code, error_code = 403, "PERMISSION_DENIED"


class NotFound(SluiceError):
    status_code, error_code = 404, "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(SluiceError):
    status_code, error_code = 409, "RESOURCE_ALREADY_EXISTS"


class RateLimited(SluiceError):
    """`remaining` is what the limit that refused has left, for the x-ratelimit-* headers."""

    status_code, error_code = 429, "REQUEST_LIMIT_EXCEEDED"
    remaining: dict[str, int] | None = None


class Abandoned(SluiceError):
    status_code, error_code = 499, "CLIENT_CLOSED_REQUEST"


class ProviderFailed(SluiceError):
    status_code, error_code = 502, "BAD_GATEWAY"


class Unavailable(SluiceError):
    status_code, error_code = 503, "TEMPORARILY_UNAVAILABLE"


class DeadlineExceeded(SluiceError):
    status_code, error_code = 504, "DEADLINE_EXCEEDED"


BY_STATUS: dict[int, type[SluiceError]] = {
    cls.status_code: cls
    for cls in (
        InvalidParameter, PayloadTooLarge, UnsupportedMedia, Unauthenticated, PermissionDenied, NotFound, AlreadyExists,
        RateLimited, Abandoned, ProviderFailed, Unavailable, DeadlineExceeded,
    )
}  # fmt: skip


def from_status(status_code: int, message: str, *, retry_after_s: int | None = None) -> SluiceError:
    """The error of a status code that arrived over Kafka; an unknown code becomes the base class (500)."""
    return BY_STATUS.get(status_code, SluiceError)(message, retry_after_s=retry_after_s)
