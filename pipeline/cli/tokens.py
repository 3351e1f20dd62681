"""`sluice token`: who may use the gateway. A token is shown once, alone on the last line, and kept only as a hash."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import quote

import typer

from pipeline.cli.api import DEFAULT_DATA, CommandFailed, Data, Gateway, Host, Token
from pipeline.cli.terminal import KAFKA_SETTINGS, errors, output, with_settings
from pipeline.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Access tokens: each belongs to a user, who may be in groups.")
TOKENS = "/api/2.0/sluice/tokens"


@app.command()
@with_settings(*KAFKA_SETTINGS)
def create(
    settings: Settings,
    user: Annotated[str, typer.Argument(help="whose token it is, e.g. alice@example.com")],
    group: Annotated[list[str] | None, typer.Option("--group", envvar="SLUICE_GROUP", help="a group of the user; may be repeated")] = None,
    admin: Annotated[bool, typer.Option("--admin", envvar="SLUICE_ADMIN", help="may change endpoints and tokens")] = False,
    host: Host = None,
    token: Token = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a token and show it, once. With --kafka straight over Kafka: for the first admin of a new installation."""
    groups = group or []
    # The option alone decides: a part's environment names a cluster too, and there the API is the right way all the same.
    if "kafka" in settings.model_fields_set and host is None and token is None:
        made = asyncio.run(_create_over_kafka(settings, user, groups, admin))
    else:
        body = {"user": user, "groups": groups, "admin": admin}
        made = Gateway(host, token, data).call("POST", TOKENS, body, "making a token")["token"]
    errors.print(f"token of {user}{' (admin)' if admin else ''}; it is not shown again:", markup=False, highlight=False)
    print(made)


@app.command("list")
def list_tokens(host: Host = None, token: Token = None, data: Data = DEFAULT_DATA) -> None:
    """All tokens: ids and owners, never the tokens themselves."""
    from rich.table import Table

    table = Table("id", "user", "groups", "admin", box=None, pad_edge=False)
    for each in Gateway(host, token, data).call("GET", TOKENS)["tokens"]:
        table.add_row(each["token_id"], each["user"], ", ".join(each["groups"]), "yes" if each["admin"] else "")
    output.print(table)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="the id that `sluice token list` shows")],
    host: Host = None,
    token: Token = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a token worthless, everywhere within a second."""
    Gateway(host, token, data).call("DELETE", f"{TOKENS}/{quote(token_id, safe='')}", doing="revoking")
    output.print(f"token {token_id} revoked", markup=False, highlight=False)


async def _create_over_kafka(settings: Settings, user: str, groups: list[str], admin: bool) -> str:
    from aiokafka.errors import KafkaError

    from pipeline.commands_client import new_token, send_command

    token, command = new_token(user, groups, admin, by="command line", reply_partition=settings.reply_partition)
    try:
        with errors.status("making a token ..."):
            await send_command(settings, command)
    except KafkaError as exc:
        raise CommandFailed(
            f"no broker answers at {settings.kafka} ({type(exc).__name__}); check --kafka, or run `sluice doctor`"
        ) from None
    return token
