"""A TCP relay on loopback that can do to a connection what networks do: delay it, cut it, encrypt it."""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import suppress
from typing import Self

from chimera.serving.local.ports import LOOPBACK

CHUNK = 65_536


class Relay:
    """Passes bytes between its own port and another of this machine.

    Args:
        target: the port that it relays to.
        tls: encrypts the client's side.

    `delay_s` holds back what passes, each way, by a time drawn between its two figures; the order
    stays. While `open` is cleared what clients send stays on its way, also when they die meanwhile.
    `cut_next_answer` breaks the next connection that is answered, in place of the answer: what was
    asked has been done, and nobody hears of it. Connections made later go to `target`.
    """

    def __init__(self, target: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.delay_s = (0.0, 0.0)
        self.open = asyncio.Event()
        self.open.set()
        self.cut_next_answer = False
        self.cuts = 0
        self._tls = tls
        self._chance = random.Random(1)
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """Where it listens, once entered."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop()

    async def drop(self) -> None:
        """Break every connection that is open now."""
        ends = set(self._ends)
        for end in ends:
            end.transport.abort()
        # Not for those that come meanwhile: whoever connects anew at once would never let it end.
        while self._ends & ends:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0)  # each connection's task notices, and takes its ends away

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._ends |= ends
        ways = [
            asyncio.ensure_future(self._pass(reader, far_writer)),
            asyncio.ensure_future(self._pass(far_reader, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in ends:
                end.transport.abort()
            self._ends -= ends

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            with suppress(OSError):
                while True:
                    due, chunk = await way.get()
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    writer.write(chunk)
                    await writer.drain()
                    way.task_done()

        delivery = asyncio.ensure_future(deliver())
        try:
            with suppress(OSError):
                while chunk := await reader.read(CHUNK):
                    if answers and self.cut_next_answer:
                        self.cut_next_answer = False
                        self.cuts += 1
                        return
                    if not answers:
                        await self.open.wait()
                    way.put_nowait((loop.time() + self._chance.uniform(*self.delay_s), chunk))
            # What was sent arrives, though its sender is gone.
            arrived = asyncio.ensure_future(way.join())
            await asyncio.wait({arrived, delivery}, return_when=asyncio.FIRST_COMPLETED)
            arrived.cancel()
        finally:
            delivery.cancel()
