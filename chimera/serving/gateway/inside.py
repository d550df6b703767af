"""Calls a route of the app from within it, as a caller from outside would: the whole way, and as a stream.

So whatever else speaks for a caller, MCP's tools for example, asks no other questions than the API's, and
gets no other answers: key, scopes, rates, places and errors are the routes' own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.types import ASGIApp, Message

from chimera.store.connection import end

AHEAD = 16
"""Parts of an answer that wait for whoever reads it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has begun.

    Attributes:
        parts: its body, as it comes; read once.
    """

    status: int
    parts: AsyncIterator[bytes]

    async def body(self, most: int = 1 << 25) -> bytes:
        """The whole of it, or its beginning where it has more than `most` bytes."""
        found = b""
        async for part in self.parts:
            found += part
            if len(found) > most:
                break
        return found

    async def lines(self) -> AsyncIterator[bytes]:
        """Its lines, without their ends."""
        rest = b""
        async for part in self.parts:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line
        if rest:
            yield rest


@asynccontextmanager
async def asked(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    params: Mapping[str, Any] | None = None,
    body: Any = None,
) -> AsyncIterator[Answer]:
    """Ask, and read the answer; leaving the block before its end is a client that goes away.

    Args:
        path: each part of it quoted where it is put together (`part`).
        params: those that are None are left out.
        body: sent as JSON, unless it is None.
    """
    sent = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    content = b"" if body is None else orjson.dumps(body)
    if content:
        sent += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    query = urlencode({name: value for name, value in (params or {}).items() if value is not None})
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path, safe="/%").encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": sent,
        "client": ("inside", 0),
        "server": ("inside", 0),
        "state": {},
    }
    messages: asyncio.Queue[Message | None] = asyncio.Queue(AHEAD)
    gone, given = asyncio.Event(), False

    async def receive() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": content, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await app(scope, receive, messages.put)
        finally:
            if not gone.is_set():
                await messages.put(None)

    async def parts() -> AsyncIterator[bytes]:
        while (message := await messages.get()) is not None and message["type"] == "http.response.body":
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    task = asyncio.create_task(run(), name=f"inside {method} {path}")
    try:
        begun = await messages.get()
        if begun is None:
            await task  # it raises what ended it before it answered
            raise RuntimeError(f"{method} {path} did not answer")
        yield Answer(int(begun["status"]), parts())
    finally:
        gone.set()
        await end(task)
        if not task.cancelled():
            task.exception()


def part(text: str) -> str:
    """One part of a path, whatever stands in it."""
    return quote(text, safe="")
