"""Waiting for what is elsewhere: containers start in any order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

RETRY_S = 1.0
SAY_S = 30.0
"""The same sentence is said again after this long."""
CONNECT_S = 5.0


class Patience:
    """Says why something is still waited for: what is new at once, the same again now and then."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said, self._at = "", 0.0

    async def wait(self, why: str) -> None:
        """Say it, and wait a moment."""
        if why != self._said or time.monotonic() - self._at > SAY_S:
            self._say(why)
            self._said, self._at = why, time.monotonic()
        await asyncio.sleep(RETRY_S)  # what is elsewhere tells nobody


def reason(error: OSError) -> str:
    """Why nothing could be reached, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


async def seen_from(host: str, port: int) -> str:
    """The own address from which a server elsewhere is reached.

    Raises:
        OSError: nobody answers there in time.
    """
    async with asyncio.timeout(CONNECT_S):
        _, writer = await asyncio.open_connection(host, port)
    own: str = writer.get_extra_info("sockname")[0]
    writer.close()
    return own


async def until_asked(living: Coroutine[Any, Any, None]) -> None:
    """Run something until SIGTERM or SIGINT, whose default is then gone for good; it is cancelled.

    Raises:
        ChimeraError: what it raises, when it ends by itself.
    """
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    life, told = asyncio.ensure_future(living), asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait({life, told}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            await life
    finally:
        life.cancel()
        told.cancel()
        await asyncio.gather(life, told, return_exceptions=True)
