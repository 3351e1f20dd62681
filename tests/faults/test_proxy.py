"""The proxy of the network faults does to connections what it says, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.stack.ports import free_port
from tests.faults.proxy import Proxy

SILENT_S = 0.3
DELAY_S = 0.5


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := self.request.recv(65_536):
                self.request.sendall(data)


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    """A server that says everything again, and ends its side when the client has ended its own."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy(echo_port) as running:
        yield running


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def said(connection: socket.socket, data: bytes) -> bytes:
    """What comes back for it."""
    connection.sendall(data)
    back = b""
    while len(back) < len(data) and (more := connection.recv(65_536)):
        back += more
    return back


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(SILENT_S)
    try:
        return said(connection, b"is anybody there") == b"never"
    except TimeoutError:
        return True


def test_bytes_pass_in_order_and_the_end_passes_too(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        data = bytes(range(256)) * 20_000
        threading.Thread(target=connection.sendall, args=(data,)).start()
        back = b""
        while len(back) < len(data):
            back += connection.recv(65_536)
        assert back == data
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_who_reads_slowly_has_every_byte_before_the_end(proxy: Proxy) -> None:
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", proxy.port))
        data = bytes(range(256)) * 20_000
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        back = b""
        while more := connection.recv(65_536):
            back += more
        assert back == data


def test_each_direction_is_delayed_and_no_longer_when_all_is_plain(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.delay(DELAY_S)
        began_s = time.monotonic()
        assert said(connection, b"late") == b"late"
        assert time.monotonic() - began_s >= 2 * DELAY_S
        proxy.plain()
        began_s = time.monotonic()
        assert said(connection, b"soon") == b"soon"
        assert time.monotonic() - began_s < 2 * DELAY_S


def test_a_reset_ends_what_there_is_and_new_connections_are_fine(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert said(one, b"1") + said(other, b"2") == b"12"
        assert proxy.reset() == 2
        for connection in (one, other):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    with connect(proxy) as connection:
        assert said(connection, b"3") == b"3"


def test_what_is_swallowed_stays_open_and_silent_even_afterwards(proxy: Proxy) -> None:
    with connect(proxy) as old:
        assert said(old, b"1") == b"1"
        proxy.swallow()
        with connect(proxy) as new:
            assert is_silent(old)
            assert is_silent(new)
            proxy.plain()
            assert is_silent(old)
            assert is_silent(new)
    with connect(proxy) as later:
        assert said(later, b"2") == b"2"


def test_some_connections_are_lost_and_the_others_are_not(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert said(one, b"1") + said(other, b"2") == b"12"
        assert proxy.lose(lambda number: number == 0) == 1
        assert is_silent(one)
        assert said(other, b"3") == b"3"


def test_where_nobody_listens_the_client_is_told() -> None:
    with Proxy(free_port()) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)
