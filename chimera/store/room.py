"""Room in the store: new work is refused while there is room left to end the old.

Redis refuses what needs memory once `maxmemory` is reached. The scripts that end or free work are let
through (`allow-oom`); the others begin work, and are refused sooner, here.
"""

from __future__ import annotations

import asyncio
import time

from chimera.errors import QueueFull
from chimera.store.connection import Redis, translated

FULL_AT = 0.8
"""Share of Redis' `maxmemory` from which no new work is taken."""
ASK_AGAIN_S = 1.0
"""An answer of Redis about its memory is good for this long."""
RETRY_AFTER_S = 5.0
"""When those who were refused may come back."""


class Room:
    """One process's view of how full the store is: however many ask, Redis is asked once a second."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._taken = 0.0

    async def taken(self) -> float:
        """The share of `maxmemory` in use, 1 when it is all; 0 where none is set.

        Raises:
            StoreError: Redis cannot be asked.
        """
        async with self._asking:
            if time.monotonic() - self._asked_at >= ASK_AGAIN_S:
                await self._ask()
            return self._taken

    async def taken_now(self) -> float:
        """The same, asked anew: for whoever makes room. Raises as `taken` does."""
        async with self._asking:
            await self._ask()
            return self._taken

    async def _ask(self) -> None:
        asked_at = time.monotonic()
        with translated():
            self._taken = _taken(await self._redis.info("memory"))
        self._asked_at = asked_at

    async def require(self) -> None:
        """See that new work may be taken.

        Raises:
            QueueFull: the store is too full for it.
        """
        if (taken := await self.taken()) >= FULL_AT:
            raise QueueFull(
                f"the store is {taken:.0%} full, and takes no new work from {FULL_AT:.0%} on: what is under "
                "way goes on, finished missions are archived to make room; raise maxmemory if it lasts",
                RETRY_AFTER_S,
            )


def _taken(memory: dict[str, int]) -> float:
    limit = memory["maxmemory"]
    # As Redis counts when it refuses: without the buffers of replicas and of the append-only file.
    return (memory["used_memory"] - memory["mem_not_counted_for_evict"]) / limit if limit else 0.0
