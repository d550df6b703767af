"""A tenant's rate of requests: one bucket in Redis for all gateways."""

from __future__ import annotations

from dataclasses import dataclass

from chimera.core.tenant import Quota
from chimera.store.connection import Redis
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Pass:
    """Requests that may pass.

    Attributes:
        count: how many; 0 when none may before `wait_s`.
        wait_s: seconds until one may; else 0.
        per_s: the tenant's rate; 0 for no bound.
    """

    count: int
    wait_s: float
    per_s: float


class Rates:
    """All tenants' rates, as one gateway takes from them.

    Args:
        gateway: unique among gateways.
        defaults: for tenants whose quota does not say.
    """

    def __init__(self, redis: Redis, gateway: str, defaults: Quota) -> None:
        self._scripts = Scripts(redis)
        self._gateway = gateway
        self._defaults = defaults

    async def take(self, tenant: str, take_id: str, most: int) -> Pass:
        """Let at most so many requests pass. The same take again gives the same answer."""
        count, wait_us, per_s = await self._scripts.run(
            "take_requests",
            [TenantKeys(tenant).root],
            self._gateway,
            take_id,
            most,
            self._defaults.requests_per_s,
            self._defaults.burst,
        )
        return Pass(int(count), int(wait_us) / 1e6, float(per_s))
