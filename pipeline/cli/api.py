"""How commands reach a running gateway: where it is, with which token, and what its errors look like on the terminal.

The address is --host, else SLUICE_HOST, else what the data folder's stack has left there; the token is --token, else SLUICE_TOKEN,
else the folder's admin token, which is sent to the folder's own stack only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.terminal import errors
from pipeline.errors import SluiceError
from pipeline.settings import Settings
from pipeline.stack.data_folder import DataFolder, StackState

if TYPE_CHECKING:
    import httpx

DEFAULT_HOST = "http://127.0.0.1:8080"
TIMEOUT_S = 150.0

Host = Annotated[str | None, typer.Option("--host", envvar="SLUICE_HOST", help="address of the gateway, e.g. http://127.0.0.1:8080")]
Token = Annotated[str | None, typer.Option("--token", envvar="SLUICE_TOKEN", help="access token; by default the data folder's admin token")]
Data = Annotated[Path, typer.Option("--data", envvar="SLUICE_DATA", help="data folder of the stack")]
DEFAULT_DATA = Path(".sluice")


class CommandFailed(SluiceError):
    """A command could not do what it was asked for."""


class Gateway:
    """A running gateway as commands see it."""

    def __init__(self, host: str | None, token: str | None, data: Path) -> None:
        """Raises CommandFailed where no token is known for this address."""
        folder = DataFolder(data)
        state = folder.read_state()
        own = state.host if state else DEFAULT_HOST
        self.host = (host or own).rstrip("/")
        if token is None and self.host == own.rstrip("/"):
            token = folder.read_token()
        if not token:
            raise CommandFailed(
                f"no token for {self.host}: give --token or SLUICE_TOKEN, or --data with the folder of a stack that `sluice up` has started"
            )
        self._token = token

    def call(self, method: str, path: str, body: Any = None, doing: str = "asking the gateway") -> Any:
        """The JSON answer of one call. Raises CommandFailed with the gateway's own words where it is an error."""
        answer = self.send(method, path, body, doing)
        if answer.is_success:
            return answer.json() if answer.content else {}
        raise CommandFailed(explain(answer))

    def send(
        self, method: str, path: str, body: Any = None, doing: str = "asking the gateway", *, as_token: str | None = None
    ) -> httpx.Response:
        """The answer as it came, whatever its status; `as_token`: with another token. Raises CommandFailed where no answer came."""
        import httpx

        headers = {"authorization": f"Bearer {as_token or self._token}"}
        with errors.status(f"{doing} ..."):
            try:
                return httpx.request(method, self.host + path, json=body, headers=headers, timeout=TIMEOUT_S, trust_env=False)
            except httpx.InvalidURL as exc:
                raise CommandFailed(f"{self.host} is no address ({exc}); it looks like {DEFAULT_HOST}") from None
            except httpx.TransportError as exc:
                reason = str(exc) or type(exc).__name__
                raise CommandFailed(
                    f"no gateway answers at {self.host} ({reason}); start one with `sluice up`, or look with `sluice doctor`"
                ) from None

    def client(self, connections: int) -> httpx.AsyncClient:
        """A client for many calls at once, with this gateway's address and token."""
        import httpx

        return httpx.AsyncClient(
            base_url=self.host, headers={"authorization": f"Bearer {self._token}"}, timeout=TIMEOUT_S, trust_env=False,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )  # fmt: skip


def with_kafka_of(state: StackState | None, settings: Settings) -> Settings:
    """The settings with the broker of the data folder's stack, unless another was named."""
    if state is None or "kafka" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"kafka": state.kafka})


def explain(answer: httpx.Response) -> str:
    """An error answer as one line."""
    try:
        body = answer.json()
        text = f"{body['error_code']}: {body['message']}"
    except (ValueError, KeyError, TypeError):
        text = answer.text[:300] or "no text"
    wait = answer.headers.get("retry-after")
    return f"{text} (status {answer.status_code}" + (f", try again in {wait} s)" if wait else ")")


def read_document(file: Path) -> Any:
    """What a JSON or YAML file holds ('-': standard input); YAML's reader reads JSON too. Raises CommandFailed."""
    import yaml

    try:
        return yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandFailed(f"{file} can't be read: {exc}") from None
    except yaml.YAMLError as exc:
        raise CommandFailed(f"{file} is neither JSON nor YAML: {' '.join(str(exc).split())}") from None
