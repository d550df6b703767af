"""Waking: bells for workers, channels for the hub. Signals only hasten; sweeps make sure."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from chimera.errors import StoreError
from chimera.store import keys
from chimera.store.connection import Redis, end, translated
from chimera.store.keys import TenantKeys


class Bell:
    """A worker's wait for claimable work, on a connection of its own."""

    def __init__(self, blocking: Redis, tenant: str) -> None:
        self._redis = blocking
        self._key = TenantKeys(tenant).bell

    async def wait(self, timeout_s: float) -> bool:
        """True when rung within the time."""
        with translated():
            return await self._redis.blpop([self._key], timeout=max(0.01, timeout_s)) is not None


class Wakeups:
    """The tenants on whose channels of a subject something was said, gathered until asked for.

    Args:
        tenant: whose channel alone is listened to; every tenant's unless it is named.
    """

    def __init__(self, blocking: Redis, subject: str, tenant: str = "*") -> None:
        self._redis = blocking
        self._subject = subject
        self._tenant = tenant
        self._names: set[str] = set()
        self._named = asyncio.Event()
        self._swept_at = 0.0
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Wakeups:
        self._listener = asyncio.create_task(self._listen(), name=f"listen {self._subject}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            await end(self._listener)

    def name(self, tenant: str) -> None:
        """Name a tenant without a signal: there is more to do for it than its turn allowed."""
        self._names.add(tenant)
        self._named.set()

    async def wait(self, timeout_s: float) -> set[str]:
        """Tenants named since the last call. Empty once every `timeout_s`, however many are named:
        then all must be looked at, for a signal may be lost while others come."""
        due = self._swept_at + timeout_s
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                await self._named.wait()
        self._named.clear()
        names, self._names = self._names, set()
        if time.monotonic() < due:
            return names
        self._swept_at = time.monotonic()
        return set()

    async def _listen(self) -> None:
        while True:
            started = time.monotonic()
            try:
                with translated():
                    async with self._redis.pubsub() as pubsub:
                        await pubsub.psubscribe(keys.channel(self._subject, self._tenant))
                        async for message in pubsub.listen():
                            if message["type"] == "pmessage":
                                self._names.add(str(message["channel"]).removeprefix(f"{self._subject}:"))
                                self._named.set()
            except StoreError:
                # The store is away: whoever waits sweeps meanwhile; do not spin while it is.
                await asyncio.sleep(max(0.0, 0.5 - (time.monotonic() - started)))
