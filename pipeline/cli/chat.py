"""`sluice chat`: one request from the terminal. The answer goes to stdout; who served it to stderr."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from pipeline.cli.api import DEFAULT_DATA, CommandFailed, Data, Gateway, Host, Token, explain
from pipeline.cli.terminal import errors


def chat(
    endpoint: Annotated[str, typer.Argument(help="name of the endpoint")],
    text: Annotated[str, typer.Argument(help="what to say")],
    host: Host = None,
    token: Token = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Say something to an endpoint and print its answer."""
    body = {"messages": [{"role": "user", "content": text}]}
    path = f"/serving-endpoints/{quote(endpoint, safe='')}/invocations"
    answer = Gateway(host, token, data).send("POST", path, body, f"waiting for {endpoint}")
    if not answer.is_success:
        raise CommandFailed(explain(answer))
    try:
        said = answer.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise CommandFailed(f"{endpoint} gave an answer without a message; it serves another task than chat") from None
    served = answer.headers.get("served-model-name", "?")
    errors.print(f"{served}, request {answer.headers.get('x-request-id', '?')}", markup=False, highlight=False, style="dim")
    print(said)
