"""Tells a webhook of an alert: one POST with a JSON object, and only a 2xx answer counts as received.

The address comes from the rules' file alone, redirects are not followed, and proxies of the environment are not used. Secrets are filled in
at the moment of the call. Never raises: what went wrong comes back as one line, which names no address and no header's value.
"""

from __future__ import annotations

from typing import Any

import httpx

from jobs.alert_rules import Webhook
from pipeline.endpoints import SECRET_REFERENCE
from pipeline.providers.secrets import SecretMissing, resolve
from pipeline.settings import Settings

TIMEOUT_S = 5.0


class WebhookClient:
    """Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    def post(self, webhook: Webhook, body: dict[str, Any]) -> str | None:
        """None where the webhook has it; else what was wrong."""
        try:
            headers = {name: self._filled(value) for name, value in webhook.headers.items()}
            # Only the status is read: an answer without an end would hold this up.
            with self._client.stream("POST", self._filled(webhook.url), json=body, headers=headers) as answer:
                if answer.is_success:
                    return None
                hint = "; redirects are not followed: give the address itself" if answer.is_redirect else ""
                return f"it answered with status {answer.status_code}{hint}"
        except SecretMissing as exc:
            return exc.message
        except httpx.ConnectError as exc:
            return f"no connection ({exc})"
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            # Its text may quote a header or the address.
            return f"no answer ({type(exc).__name__})"

    def close(self) -> None:
        """Close what is open."""
        self._client.close()

    def _filled(self, text: str) -> str:
        return SECRET_REFERENCE.sub(lambda match: resolve(match[0], self._settings).reveal(), text)
