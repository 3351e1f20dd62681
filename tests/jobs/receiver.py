"""A webhook as an operator has one: a small HTTP server that notes what it is sent. It can be away, and refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.stack.ports import free_port


class Receiver:
    """On one address for good, whether it listens or not."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status = 204
        self.answer_headers: dict[str, str] = {}
        self.body = b""
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refused = 0
        self.on_post: Callable[[], None] = lambda: None
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it is, with a path that no log may hold."""
        return f"http://127.0.0.1:{self.port}/hidden-path"

    def start(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.on_post()
                if receiver.status < 300:
                    receiver.got.append(body)
                    receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                else:
                    receiver.refused += 1
                self.send_response(receiver.status)
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
