"""Starts and stops the ingress: topics, producer, followers, the reply reader, health, then the HTTP server.

`main` blocks until SIGTERM or SIGINT and then finishes the requests it has. It ends with exit code 1 and one line where it can't
start: the port is taken, the broker can't be reached, a topic has another shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import uvicorn
import uvloop
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.endpoints import Endpoint, Token
from pipeline.errors import SluiceError, Unavailable
from pipeline.garbage import collect_seldom
from pipeline.ingress.control_plane import ControlPlane
from pipeline.ingress.health import Health
from pipeline.ingress.http_app import Gate
from pipeline.ingress.metrics import Metrics
from pipeline.ingress.replies import ReplyReader, Waiting
from pipeline.ingress.sending import Gateway
from pipeline.kafka.admin import create_topics
from pipeline.kafka.connection import new_producer
from pipeline.kafka.follower import Follower
from pipeline.kafka.lasting_producer import LastingProducer
from pipeline.open_files import allow_many
from pipeline.providers.secrets import is_present
from pipeline.settings import Settings

log = logging.getLogger(__name__)
BROKER_TIMEOUT_S = 60.0
# Requests under way at a stop get this long; those that remain are the workers' to finish, without a client.
SHUTDOWN_S = 10
# Longer than clients and load balancers keep a connection that nothing happens on (httpx 5 s, many balancers 60 s): who closes first must
# be the side that asks, or a request meets a connection that is just being closed.
KEEP_ALIVE_S = 75


def main(settings: Settings) -> None:
    """Run the ingress until SIGTERM or SIGINT."""
    try:
        listening = _listen(settings)
        collect_seldom()
        allow_many()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, listening))
    except (SluiceError, KafkaError) as exc:
        print(f"the ingress cannot run: {exc}", file=sys.stderr)
        raise SystemExit(1) from None


def _listen(settings: Settings) -> socket.socket:
    """The listening socket, taken before anything else starts, so that a taken port is found at once."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.bind, settings.port))
    except OSError as exc:
        listening.close()
        raise Unavailable(f"cannot listen on {settings.bind}:{settings.port} ({exc.strerror}); choose another with --port") from None
    return listening


async def _run(settings: Settings, listening: socket.socket) -> None:
    async with started(settings) as app:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=4096,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        server = _Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        print(f"SLUICE READY ingress http://{host}:{port}", flush=True)
        await serving


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which would end the process by the signal instead of with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Finish what is under way and end; a second signal ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


@contextlib.asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Gate]:
    """The application with everything it needs running; all of it is stopped at the end, in the reverse order."""
    async with contextlib.AsyncExitStack() as stack:

        async def running(start: Callable[[], Awaitable[object]], stop: Callable[[], Awaitable[object]]) -> None:
            # First the way to stop it: a start that fails half way leaves connections behind.
            stack.push_async_callback(stop)
            await start()

        await _with_patience(lambda: create_topics(settings), settings)
        sent_to = [topic.name for topic in (topics.REQUESTS, topics.COMMANDS, topics.CANCELLATIONS)]
        producer = LastingProducer(lambda: new_producer(settings, f"sluice-ingress-{settings.reply_partition}"), sent_to)
        endpoints = Follower(settings, topics.ENDPOINTS, Endpoint.model_validate_json)
        tokens = Follower(settings, topics.TOKENS, Token.model_validate_json)
        waiting = Waiting(settings.max_waiting)
        replies = ReplyReader(settings, waiting)
        health = Health(settings, lambda: replies.ready)
        for part in (producer, endpoints, tokens, replies, health):
            await running(part.start, part.stop)
        metrics = Metrics()
        metrics.show(health)
        gateway = Gateway(settings, producer, waiting, endpoints, health, metrics)
        control = ControlPlane(
            settings, producer, waiting, endpoints, tokens, health, metrics, lambda reference: not is_present(reference, settings)
        )
        yield Gate(gateway, control)


async def _with_patience(attempt: Callable[[], Awaitable[object]], settings: Settings) -> None:
    """Try until the broker is there: parts of an installation start in any order."""
    deadline = asyncio.get_running_loop().time() + BROKER_TIMEOUT_S
    while True:
        try:
            await attempt()
            return
        except KafkaError as exc:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    f"no broker answers at {settings.kafka} ({type(exc).__name__}); start one, or name another with --kafka"
                ) from None
            log.info("waiting for the broker at %s (%s)", settings.kafka, type(exc).__name__)
            await asyncio.sleep(1)
