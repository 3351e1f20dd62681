"""What the demo provider says of the calls it got."""

from __future__ import annotations

from typing import Any

import httpx


def calls(demo_url: str, **query: str) -> list[dict[str, Any]]:
    """Its ledger, for one `request_id` or one `model`; all it remembers without."""
    base = demo_url.removesuffix("/v1")
    answer = httpx.get(f"{base}/demo/calls", params=query, trust_env=False)
    return list(answer.raise_for_status().json()["calls"])


def behave(demo_url: str, model: str, behaviour: str, times: int = 1) -> None:
    """Have the next so many calls of `model` behave like this."""
    base = demo_url.removesuffix("/v1")
    httpx.post(f"{base}/demo/behaviour", json={"model": model, "behaviour": behaviour, "times": times}, trust_env=False).raise_for_status()
