"""`sluice endpoint`: endpoints from the terminal, over the same API that Databricks' SDK uses. Decides nothing of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pipeline.cli.api import DEFAULT_DATA, CommandFailed, Data, Gateway, Host, Token, explain, read_document
from pipeline.cli.terminal import output

app = typer.Typer(no_args_is_help=True, help="Endpoints: what the gateway serves, and under which rules.")
ENDPOINTS = "/api/2.0/serving-endpoints"
# What a section is when a file does not name it: `apply` makes the endpoint as the file says, and the API keeps what is not sent.
SECTIONS_OFF: dict[str, Any] = {
    "inference_table_config": {"enabled": False},
    "usage_tracking_config": {"enabled": False},
    "rate_limits": [],
    "guardrails": {},
    "fallback_config": {"enabled": False},
}

Name = Annotated[str, typer.Argument(help="name of the endpoint")]


@app.command("list")
def list_endpoints(host: Host = None, token: Token = None, data: Data = DEFAULT_DATA) -> None:
    """All endpoints, one a line."""
    from rich.table import Table

    table = Table("name", "served entities", "limits", "tables", box=None, pad_edge=False)
    for endpoint in Gateway(host, token, data).call("GET", ENDPOINTS).get("endpoints", []):
        gateway = endpoint.get("ai_gateway") or {}
        entities = ", ".join(e["name"] for e in endpoint["config"]["served_entities"])
        limits = ", ".join(f"{r['calls']}/{r['renewal_period']}/{r.get('key', 'endpoint')}" for r in gateway.get("rate_limits") or [])
        logged = gateway.get("inference_table_config") or {}
        place = "{catalog_name}.{schema_name}.{table_name_prefix}".format(**logged) if logged.get("enabled") else ""
        table.add_row(endpoint["name"], entities, limits, place)
    output.print(table)


@app.command()
def show(name: Name, host: Host = None, token: Token = None, data: Data = DEFAULT_DATA) -> None:
    """One endpoint as JSON, with its state."""
    output.print_json(data=Gateway(host, token, data).call("GET", f"{ENDPOINTS}/{quote(name, safe='')}"))


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="JSON or YAML: the body of the API's create call ('-': standard input)")],
    host: Host = None,
    token: Token = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Create the endpoint that FILE describes, or make the existing one so; what FILE leaves out is off afterwards."""
    wanted = _read(file)
    done = make_so(Gateway(host, token, data), wanted)
    output.print(f"endpoint {wanted['name']} {done}", markup=False, highlight=False)


@app.command()
def delete(name: Name, host: Host = None, token: Token = None, data: Data = DEFAULT_DATA) -> None:
    """Delete an endpoint; its tables stay."""
    Gateway(host, token, data).call("DELETE", f"{ENDPOINTS}/{quote(name, safe='')}", doing=f"deleting {name}")
    output.print(f"endpoint {name} deleted", markup=False, highlight=False)


def make_so(gateway: Gateway, wanted: dict[str, Any]) -> str:
    """Create the endpoint that `wanted` (the API's create body) describes, or change the existing one into it; says which of the two."""
    name = wanted["name"]
    created = gateway.send("POST", ENDPOINTS, wanted, f"creating {name}")
    if created.is_success:
        return "created"
    if created.status_code != 409:
        raise CommandFailed(explain(created))
    place = f"{ENDPOINTS}/{quote(name, safe='')}"
    before = gateway.call("GET", place)
    if "config" in wanted:
        gateway.call("PUT", f"{place}/config", wanted["config"], f"changing {name}")
    gateway.call("PUT", f"{place}/ai-gateway", SECTIONS_OFF | (wanted.get("ai_gateway") or {}), f"changing {name}")
    tags = wanted.get("tags") or []
    gone = sorted({t["key"] for t in before.get("tags", [])} - {t["key"] for t in tags})
    if tags or gone:
        gateway.call("PATCH", f"{place}/tags", {"add_tags": tags, "delete_tags": gone}, f"changing {name}")
    return "changed"


def _read(file: Path) -> dict[str, Any]:
    """The body that a file holds. Raises CommandFailed."""
    body = read_document(file)
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise CommandFailed(f"{file} must hold an object with a name, as the API's create call takes it; `sluice endpoint show` prints one")
    return body
