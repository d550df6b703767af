"""Desks of a process that pays for many tenants: one a tenant, opened when needed, closed when idle."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chimera.errors import HubBusy
from chimera.runtime.desk import Desk
from chimera.store.connection import Redis

MOST = 128
"""Desks open at once; each waits for its answers on a connection of its own."""
IDLE_S = 60.0
"""One that nobody uses is kept open this long."""
RETRY_AFTER_S = 2.0


class Desks:
    """The desks of one process.

    Args:
        asker: names this process; each desk adds a number that nobody else has.
        wait_s: see `Desk`.
        most: desks open at once.
        idle_s: one that nobody uses is closed after this.
    """

    def __init__(
        self,
        redis: Redis,
        blocking: Redis,
        asker: str,
        *,
        wait_s: float,
        most: int = MOST,
        idle_s: float = IDLE_S,
    ) -> None:
        self._redis, self._blocking, self._asker, self._wait_s = redis, blocking, asker, wait_s
        self._most, self._idle_s = most, idle_s
        self._desks: dict[str, Desk] = {}
        """By tenant; who was used last stands last."""
        self._users: Counter[str] = Counter()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> frozenset[str]:
        """Tenants whose desk is open."""
        return frozenset(self._desks)

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[Desk]:
        """The tenant's desk, which stays open for the block.

        Raises:
            HubBusy: as many are in use as may be.
        """
        desk = self._desks.pop(tenant, None)
        if desk is None:
            self._make_room()
            desk = Desk(
                self._redis,
                self._blocking,
                tenant,
                f"{self._asker}-{secrets.token_hex(6)}",
                wait_s=self._wait_s,
            )
            desk.start()
        self._desks[tenant] = desk
        self._users[tenant] += 1
        if timer := self._timers.pop(tenant, None):
            timer.cancel()
        try:
            yield desk
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant]
                if self._desks.get(tenant) is desk:
                    loop = asyncio.get_running_loop()
                    self._timers[tenant] = loop.call_later(self._idle_s, self._shut, tenant)

    async def close(self) -> None:
        """Close them all; whoever still waits at one is told. Twice is fine."""
        for tenant in list(self._desks):
            self._shut(tenant)
        await asyncio.gather(*self._closing)

    def _make_room(self) -> None:
        if len(self._desks) < self._most:
            return
        idle = next((tenant for tenant in self._desks if not self._users[tenant]), None)
        if idle is None:
            raise HubBusy(
                f"this gateway pays for {self._most:,} tenants at once, and has as many", RETRY_AFTER_S
            )
        self._shut(idle)

    def _shut(self, tenant: str) -> None:
        if timer := self._timers.pop(tenant, None):
            timer.cancel()
        stopping = asyncio.create_task(self._desks.pop(tenant).stop(), name=f"desk of {tenant} stops")
        self._closing.add(stopping)
        stopping.add_done_callback(self._closing.discard)
