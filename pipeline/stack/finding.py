"""One thing that a look at an installation has found, as `sluice doctor` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` names the thing and, unless it is good, the remedy. `hint`: works, but look at it."""

    level: Literal["good", "hint", "bad"]
    text: str
