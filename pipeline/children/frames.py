"""What a pool and its children say to each other over pipes: pickled values, each behind its length in four bytes, big-endian.

Both ends run this code and nobody else has the pipe, so a pickle holds nothing but what this package has put in.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, Final

LENGTH: Final = struct.Struct(">I")


def packed(value: Any) -> bytes:
    """`value` as one frame. Raises struct.error where it is larger than 4 GB."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def unpacked(body: bytes) -> Any:
    """The value of a frame's `body`. Raises ValueError where it is none."""
    try:
        return pickle.loads(body)  # noqa: S301 - see above
    except Exception as exc:
        raise ValueError("not a value of ours") from exc
