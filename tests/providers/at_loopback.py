"""What the tests of this folder share: the running demo provider, a scripted one, and the key that must never be seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.providers.result import ProviderResult
from tests import demo

CANARY = "sk-canary-7f3d91aa-never-show-this"
CHAT = "llm/v1/chat"
Call = Callable[..., Awaitable[ProviderResult]]


@dataclass(frozen=True)
class Streamed:
    """A stream to its end."""

    chunks: list[dict[str, Any]]
    result: ProviderResult

    @property
    def text(self) -> str:
        """What is said, of chat and completions alike."""
        return "".join(choice.get("delta", choice).get("content") or choice.get("text") or "" for choice in self._choices())

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The pieces of tool calls."""
        return [call for choice in self._choices() for call in choice["delta"].get("tool_calls") or []]

    @property
    def finish_reasons(self) -> list[str]:
        """Those that are not None."""
        return [choice["finish_reason"] for choice in self._choices() if choice["finish_reason"] is not None]

    def _choices(self) -> list[dict[str, Any]]:
        return [choice for chunk in self.chunks for choice in chunk["choices"]]


Stream = Callable[..., Awaitable[Streamed]]


async def read(items: AsyncIterator[dict[str, Any] | ProviderResult]) -> Streamed:
    """All of a stream; the result must be the one last item."""
    *chunks, result = [item async for item in items]
    assert isinstance(result, ProviderResult)
    assert all(isinstance(chunk, dict) for chunk in chunks)
    return Streamed([chunk for chunk in chunks if isinstance(chunk, dict)], result)


@dataclass(frozen=True)
class Demo:
    """The running demo provider."""

    url: str
    ledger: Path

    def calls(self, **query: str) -> list[dict[str, Any]]:
        """Its ledger."""
        return demo.calls(self.url, **query)


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


class ScriptedProvider:
    """A provider that answers every call with these bytes and keeps the last call's headers and body; `missing_bytes` more it promises,
    but closes the connection instead."""

    def __init__(
        self, answer: bytes, extra: str = "", status: str = "200 OK", media_type: str = "application/json", missing_bytes: int = 0
    ) -> None:
        length = len(answer) + missing_bytes
        head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n"
        self._answer = head.encode() + answer
        self.headers: dict[str, str] = {}
        self.body = b""
        self.url = ""

    async def __aenter__(self) -> ScriptedProvider:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        self.body = await reader.readexactly(int(self.headers["content-length"]))
        writer.write(self._answer)
        writer.close()
