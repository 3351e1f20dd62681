"""What the commands share on the terminal: where output and errors go, how tables and logging look, the options made from Settings.

Results go to stdout and nothing else does, so that they can be piped; progress and errors go to stderr.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from pipeline.endpoints import describe
from pipeline.errors import InvalidParameter
from pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.text import Text

output = Console(soft_wrap=True)
errors = Console(stderr=True)

# What a part needs to reach a secured cluster; every command that connects to Kafka has them. The password is read from its variable
# alone: a command line is readable for every user of the machine.
KAFKA_SETTINGS = (
    "kafka", "kafka_security_protocol", "kafka_sasl_mechanism", "kafka_sasl_username", "kafka_ssl_cafile",
    "kafka_ssl_certfile", "kafka_ssl_keyfile",
)  # fmt: skip


def load_settings(**given: Any) -> Settings:
    """Settings from what was given on the command line (None: not given), the environment and the defaults.

    Raises InvalidParameter that names the setting, the value and what is wanted.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        raise InvalidParameter(f"a setting is not valid (option --NAME or variable SLUICE_NAME): {describe(exc)}") from None


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each of these settings, and the resulting Settings as its first argument.

    Name, help, default and variable of each option come from the Settings class, so they are declared once.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            settings = load_settings(**{name: given.pop(name) for name in names})
            function(settings, **given)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        command.__signature__ = inspect.Signature([*own, *map(_option, names)])  # type: ignore[attr-defined]
        command.__annotations__ = {}
        return command

    return decorate


def _option(name: str) -> inspect.Parameter:
    """The option of one setting. Values stay text here: Settings converts and checks them."""
    field = Settings.model_fields[name]
    flag = field.annotation is bool
    shown = None if field.default is None or flag else str(field.default)
    option = typer.Option(
        f"--{name.replace('_', '-')}", envvar=f"SLUICE_{name.upper()}", help=field.description or name.replace("_", " "),
        show_default=shown or False, metavar=None if flag else "TEXT",
    )  # fmt: skip
    annotation: Any = Annotated[bool | None, option] if flag else Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, texts: int = 1, title: str | None = None) -> None:
    """Print rows as a table; the first `texts` columns begin at the left, the others are figures. No text in a cell is markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < texts else "right", overflow="fold" if place < texts else "ellipsis")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    output.print(table)


def log_to_stderr() -> None:
    """Logging of a long-running part: ours from INFO, libraries from WARNING, to stderr."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for ours in ("pipeline", "jobs"):
        logging.getLogger(ours).setLevel(logging.INFO)
