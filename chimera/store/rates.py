"""Rates of requests, a tenant's and a key's own: one bucket in Redis each, for all gateways."""

from __future__ import annotations

from dataclasses import dataclass

from chimera.core.tenant import Quota
from chimera.store.connection import Redis
from chimera.store.keys import TenantKeys, key_root, login_root
from chimera.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Pass:
    """Requests that may pass.

    Attributes:
        count: how many; 0 when none may before `wait_s`.
        wait_s: seconds until one may; else 0.
        per_s: the rate; 0 for no bound.
        suspended: whether the tenant is.
        reason: why.
    """

    count: int
    wait_s: float
    per_s: float
    suspended: bool = False
    reason: str = ""


class Rates:
    """All rates, as one gateway takes from them.

    Args:
        gateway: unique among gateways.
        defaults: for tenants whose quota does not say.
    """

    def __init__(self, redis: Redis, gateway: str, defaults: Quota) -> None:
        self._scripts = Scripts(redis)
        self._gateway = gateway
        self._defaults = defaults

    async def take(self, tenant: str, take_id: str, most: int) -> Pass:
        """Let at most so many requests of a tenant pass. The same take again gives the same answer."""
        root = TenantKeys(tenant).root
        return await self._take(root, take_id, most, self._defaults.requests_per_s, self._defaults.burst)

    async def take_of_key(self, tenant: str, key_id: str, take_id: str, most: int, per_s: float) -> Pass:
        """The same of one key, which may send `per_s` requests a second."""
        return await self._take(key_root(tenant, key_id), take_id, most, per_s, 0)

    async def take_of_login(self, address: str, take_id: str, per_s: float, burst: int) -> Pass:
        """One attempt to log in from an address, at `per_s` and `burst`."""
        return await self._take(login_root(address), take_id, 1, per_s, burst)

    async def _take(self, root: str, take_id: str, most: int, per_s: float, burst: int) -> Pass:
        count, wait_us, rate, suspended = await self._scripts.run(
            "take_requests", [root], self._gateway, take_id, most, per_s, burst
        )
        reason = str(suspended).partition(" ")[2]
        return Pass(int(count), int(wait_us) / 1e6, float(rate), bool(suspended), reason)
