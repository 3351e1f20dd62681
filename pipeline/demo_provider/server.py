"""The demo provider's process: uvicorn with httptools and uvloop, on 127.0.0.1 unless told otherwise, and nothing else.

Prints `SLUICE READY demo-provider http://127.0.0.1:PORT` when it listens, ends with status 0 on SIGTERM and SIGINT, and fails at once
where the port is taken.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.demo_provider.app import DemoProvider
from pipeline.demo_provider.exchange import TRANSPORT
from pipeline.demo_provider.ledger import Ledger
from pipeline.open_files import allow_many

HOST = "127.0.0.1"
_BACKLOG = 4_096


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the transport in the scope: breaking connections is what this server is for."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and sockets:
            print(f"SLUICE READY demo-provider http://{':'.join(map(str, sockets[0].getsockname()))}", flush=True)


def main(port: int, ledger: Path | None, bind: str = HOST) -> None:
    """Serve on `bind`:`port` (0: any free one) until SIGTERM or SIGINT; OSError where the port is taken."""
    allow_many()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((bind, port))
    listener.listen(_BACKLOG)
    config = uvicorn.Config(
        DemoProvider(Ledger(ledger)), http=_Protocol, loop="uvloop", ws="none", lifespan="off", interface="asgi3",
        access_log=False, log_level="critical", server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=1,
    )  # fmt: skip

    # uvicorn raises a caught signal again when it is done; here that is the ordinary end.
    def ignore(*_: Any) -> None:
        return None

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ignore)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_Server(config).serve(sockets=[listener]))
