"""An open page, as lean as can be: a browser's own work is done on another machine."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit


class Watcher:
    """Asks for panels one after another over one connection, each by the tag of what it has.

    Args:
        url: of the gateway.
        key: whose panels they are.
        panels: their names.
    """

    def __init__(self, url: str, key: str, panels: list[str]) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._key = key
        self._tags = dict.fromkeys(panels, "")

    async def watch(self, every_s: float, took: list[float]) -> None:
        """Until it is cancelled; how long each answer took is added. RuntimeError: there was none."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            while True:
                for panel in self._tags:
                    began = time.perf_counter()
                    await self._ask(panel, reader, writer)
                    took.append(time.perf_counter() - began)
                await asyncio.sleep(every_s)
        finally:
            writer.close()

    async def _ask(self, panel: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [
            f"GET /v1/panels/{panel} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Authorization: Bearer {self._key}",
            *([f"If-None-Match: {tag}"] if (tag := self._tags[panel]) else []),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *told = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in told)}
        code = status.split()[1]
        if code not in {"200", "304"}:
            raise RuntimeError(f"{panel}: {status}")
        if code == "200":
            await reader.readexactly(int(headers["content-length"]))
        self._tags[panel] = headers["etag"]
