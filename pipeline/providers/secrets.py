"""{{secrets/SCOPE/KEY}} at the moment of a call: from the environment, else from the folder of secrets (contract, part 6).

    environment   SLUICE_SECRET_SCOPE_KEY, upper case, `-` and `.` as `_`
    folder        DIR/SCOPE/KEY, as Kubernetes mounts them; one newline at the end is not part of the value

A value is handed out as a Secret, which shows itself as `***` wherever it is printed. What is missing, unreadable or can't stand
in a header raises SecretMissing; its message names the reference and both places, never a value.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.endpoints import SECRET_REFERENCE
from pipeline.errors import SluiceError
from pipeline.settings import Settings

MAX_SECRET_BYTES = 65_536
# A key travels in a header: printable ASCII without spaces, so that it can neither break nor add one.
_FIT_FOR_HEADER = re.compile(r"[\x21-\x7e]+")


class SecretMissing(SluiceError):
    """The reference leads to no usable value."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A key. `reveal()` gives the value; everything else shows `***`."""

    _value: str

    def reveal(self) -> str:
        """The value itself, for the header of the call and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


def resolve(reference: str, settings: Settings) -> Secret:
    """The value of `{{secrets/SCOPE/KEY}}`; SecretMissing where there is none or it can't be used."""
    scope, key = _parts(reference)
    value = os.environ.get(variable(scope, key))
    if value is None:
        value = _from_folder(settings.secrets, scope, key)
    if not value:
        folder = settings.secrets or "DIR"
        raise SecretMissing(
            f"secret {reference} is not there; set the variable {variable(scope, key)}, or write the file {folder}/{scope}/{key} "
            "(--secrets DIR), for every worker, and for the table job where a webhook needs it"
        )
    if not _FIT_FOR_HEADER.fullmatch(value):
        raise SecretMissing(
            f"secret {reference} holds spaces, line ends or characters beyond ASCII, which no header can carry; store the bare key"
        )
    return Secret(value)


def is_present(reference: str, settings: Settings) -> bool:
    """Whether `reference` would resolve on this machine now."""
    try:
        resolve(reference, settings)
    except SecretMissing:
        return False
    return True


def variable(scope: str, key: str) -> str:
    """The environment variable of a secret."""
    return f"SLUICE_SECRET_{scope}_{key}".upper().replace("-", "_").replace(".", "_")


def is_reference(text: str) -> bool:
    """Whether `text` names a secret, be it there or not."""
    match = SECRET_REFERENCE.fullmatch(text)
    # A name of dots only would leave the folder of secrets.
    return match is not None and all(part.strip(".") for part in match.groups())


def _parts(reference: str) -> tuple[str, str]:
    match = SECRET_REFERENCE.fullmatch(reference)
    if match is None or not is_reference(reference):
        raise SecretMissing("a key is not a secret reference of the form {{secrets/SCOPE/KEY}}; correct the endpoint's configuration")
    return match[1], match[2]


def _from_folder(folder: Path | None, scope: str, key: str) -> str | None:
    if folder is None:
        return None
    try:
        with (folder / scope / key).open("rb") as file:
            data = file.read(MAX_SECRET_BYTES)
        text = data.decode()
    except (OSError, UnicodeDecodeError):
        return None
    return text.removesuffix("\n").removesuffix("\r")
