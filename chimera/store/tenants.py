"""Tenants and their API keys. A key is shown once; only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

from chimera.errors import Unauthorized
from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request."""

    tenant: str
    key_id: str

    def __str__(self) -> str:
        return f"key:{self.key_id}"


class TenantStore:
    """All tenants."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def add(self, tenant: str) -> None:
        """Make a tenant; idempotent."""
        await self._scripts.run("add_tenant", [keys.TENANTS], tenant, json.dumps({"weight": 1}))

    async def remove(self, tenant: str) -> None:
        """Forget a tenant: the hub looks after it no more. Its records stay; idempotent."""
        with translated():
            await self._redis.hdel(keys.TENANTS, tenant)

    async def names(self) -> list[str]:
        """All tenants by name."""
        with translated():
            return sorted(await self._redis.hkeys(keys.TENANTS))

    async def new_key(self, tenant: str) -> str:
        """A new key of 256 random bits for the tenant. It is not kept: only its digest is."""
        key = f"chi_{secrets.token_urlsafe(32)}"
        await self.set_key(tenant, key)
        return key

    async def set_key(self, tenant: str, key: str) -> None:
        """Let a key act for the tenant; idempotent."""
        # The key is random, so one fast hash suffices: there is nothing to guess.
        record = json.dumps({"tenant": tenant, "key_id": _digest(key)[:8]})
        await self._scripts.run("set_key", [keys.API_KEYS], _digest(key), record)

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            Unauthorized: nobody's.
        """
        with translated():
            record = await self._redis.hget(keys.API_KEYS, _digest(key))
        if record is None:
            raise Unauthorized("this key is not known: check CHIMERA_API_KEY")
        with translated():
            return Principal(**json.loads(record))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
