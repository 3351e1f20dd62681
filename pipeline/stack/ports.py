"""Ports on 127.0.0.1: which are free. A free port may be taken by another process before it is used; whoever binds it says so."""

from __future__ import annotations

import socket
import time

LOOK_EVERY_S = 0.02


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections still linger counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def becomes_free(port: int, timeout_s: float) -> bool:
    """Whether a server can listen on `port` now or within `timeout_s`; blocks until then."""
    deadline = time.monotonic() + timeout_s
    while not (free := is_free(port)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return free


def is_listening(address: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((address, port), timeout_s):
            return True
    except OSError:
        return False
