"""Spares: warm worker processes that wait to be one tenant's. Whose each is, and how it hears of it."""

from __future__ import annotations

from collections.abc import Iterable

from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts

DISMISSED = "-"
"""In a tenant's stead, and no tenant's name: the spare is to end."""


class SpareStore:
    """All spares of the fleet."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def join(self, spare: str) -> str:
        """A spare is there, and ready. Returns whose it is; "" while it waits. Harmless when repeated."""
        with translated():
            await self._redis.hsetnx(keys.SPARES, spare, "")
            return str(await self._redis.hget(keys.SPARES, spare) or "")

    async def bind(self, spare: str, tenant: str) -> str:
        """Make it the tenant's. Returns whose it is: the first that asked; "" when there is no such spare."""
        return str(
            await self._scripts.run("bind_spare", [keys.SPARES, keys.spare_bell(spare)], spare, tenant)
        )

    async def dismiss(self, spare: str) -> bool:
        """Send a spare that waits away; False when it belongs to a tenant, or is gone."""
        return await self.bind(spare, DISMISSED) == DISMISSED

    async def all(self) -> dict[str, str]:
        """Spares that are ready: to whom each belongs, or "" while it waits."""
        with translated():
            return dict(await self._redis.hgetall(keys.SPARES))

    async def forget(self, spares: Iterable[str]) -> None:
        """Spares that are gone."""
        if named := list(spares):
            with translated():
                await self._redis.hdel(keys.SPARES, *named)


class SpareBell:
    """A spare's wait for its tenant, on a connection of its own."""

    def __init__(self, blocking: Redis, spare: str) -> None:
        self._redis = blocking
        self._key = keys.spare_bell(spare)

    async def wait(self, timeout_s: float) -> None:
        """Until it is told, or the time is over: `SpareStore.join` says which."""
        with translated():
            await self._redis.blpop([self._key], timeout=max(0.01, timeout_s))
