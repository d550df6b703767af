"""A receiver of webhooks on loopback: it writes down each call as it arrives, and answers as told."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


@dataclass
class Receiver:
    """Its journal, and how it answers.

    Attributes:
        answers: (status, further headers) of the next answers; then 200.
        silent: calls are written down, and never answered, while it is set.
        arriving: called with each call, before it is answered.
    """

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    answers: deque[tuple[int, str]] = field(default_factory=deque)
    silent: bool = False
    arriving: Callable[[Call], None] = lambda _call: None
    body: str = "ok"
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def arrived(self, n: int, timeout_s: float = 20) -> None:
        """Wait until it has been called n times."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= n)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {
                name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)
            }
            text = await reader.readexactly(int(headers.get("content-length", 0)))
            call = Call(method, path, headers, json.loads(text) if text else None, time.monotonic())
            async with self._arrived:
                self.calls.append(call)
                self._arrived.notify_all()
            self.arriving(call)
            if self.silent:
                await reader.read()  # until the caller gives up
                return
            status, more = self.answers.popleft() if self.answers else (200, "")
            body = self.body.encode()
            length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{more}{length}".encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller went away: some tests kill it
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()
