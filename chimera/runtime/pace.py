"""The pace of what can wait: while others have to, it takes a share of a processor and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

REST_S = 1.0
"""The longest rest: what others on the loop did meanwhile is counted to the turn."""


class Pace:
    """Turns of work on a machine that may have better to do.

    Not crowded, turns are taken side by side at once. Crowded, one at a time, each followed by a rest that
    leaves it its share of a processor: time in which a turn waited, as for a server, is none that it took. A
    rest ends early when the crowd is gone.

    Args:
        share: of a processor, above 0 and at most 1.
        rest_s: the longest rest, seconds.
        used_s: processor seconds of the loop's thread so far.
    """

    def __init__(
        self, share: float, rest_s: float = REST_S, used_s: Callable[[], float] = time.thread_time
    ) -> None:
        self._share, self._rest_s, self._used_s = share, rest_s, used_s
        self._one = asyncio.Lock()
        self._free = asyncio.Event()
        self._free.set()

    @property
    def crowded(self) -> bool:
        """Whether others wait."""
        return not self._free.is_set()

    @crowded.setter
    def crowded(self, others_wait: bool) -> None:
        if others_wait:
            self._free.clear()
        else:
            self._free.set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold a turn; leaving it takes as long as the rest. A turn that fails is followed by none."""
        if not self.crowded:
            yield
            return
        async with self._one:
            before = self._used_s()
            yield
            took = self._used_s() - before
            try:
                async with asyncio.timeout(min(self._rest_s, took * (1 / self._share - 1))):
                    await self._free.wait()
            except TimeoutError:
                return
