"""Which served entities answer a request, in which order, how long each may take, and when the next one is asked.

`traffic_config` weights pick the first entity; with fallback enabled the others follow in their configured order
(specification, "Fallback Routes"; contract, part 7). Pure: chance comes in as the request id, so that a request that runs again
after a crash takes the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.endpoints import CoreConfig, ServedEntity
from pipeline.errors import DeadlineExceeded, InvalidParameter, ProviderFailed, RateLimited, SluiceError
from pipeline.providers.result import Failure, ProviderResult


def order(config: CoreConfig, fallback: bool, request_id: str) -> list[ServedEntity]:
    """The served entities to ask, first to last; one only where fallback is off."""
    entities = config.served_entities
    first = _first(config, request_id)
    return [first, *(e for e in entities if e is not first)] if fallback else [first]


def _first(config: CoreConfig, request_id: str) -> ServedEntity:
    routes = config.traffic_config.routes if config.traffic_config else []
    point = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "big") % 100
    for route in routes:
        point -= route.traffic_percentage
        if point < 0:
            return next(e for e in config.served_entities if e.label == route.target)
    return config.served_entities[0]


def attempt_timeout_s(left_s: float, entities_left: int) -> float:
    """How long one attempt may take, so that a hanging entity leaves time for the ones after it.

    `left_s` is what remains of the request's deadline; `entities_left` counts this one. The last one gets all that is left.
    """
    return left_s / entities_left if entities_left > 1 else left_s


def goes_on(failure: Failure | None) -> bool:
    """Whether the next served entity is asked: after 429, 5xx, refused connections, timeouts and garbage, not after the
    client's own mistakes."""
    return failure in (Failure.RATE_LIMITED, Failure.PROVIDER)


def error_of(results: Sequence[ProviderResult], deadline_passed: bool) -> SluiceError:
    """The answer where no served entity gave one. `results` are the attempts in order, all failed."""
    last = results[-1] if results else None
    if last is not None and last.failure is Failure.CLIENT:
        return InvalidParameter(last.error or "the provider refused the request")
    if deadline_passed or last is None:
        tried = f"; the last error was: {last.error}" if last is not None and last.error else ""
        return DeadlineExceeded(f"the deadline passed before a served entity answered{tried}")
    if all(r.failure is Failure.RATE_LIMITED for r in results):
        wait_s = max(1, min((r.retry_after_s for r in results if r.retry_after_s), default=1))
        return RateLimited(f"every served entity is over its provider's rate limit: {last.error}", retry_after_s=wait_s)
    return ProviderFailed(f"every served entity failed; the last error was: {last.error}")


def error_of_broken_stream(result: ProviderResult, deadline_passed: bool) -> SluiceError:
    """How a stream ends whose served entity failed after its first piece was out."""
    if deadline_passed:
        return DeadlineExceeded(f"the deadline passed before the stream had ended: {result.error}")
    return ProviderFailed(f"the stream broke off: {result.error}")
