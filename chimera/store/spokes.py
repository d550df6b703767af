"""Spokes: which one keeps a tenant's workers, from a cluster of the tenant's own."""

from __future__ import annotations

from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts


class SwarmElection:
    """The lead of one tenant's swarm; an `Election` whose lead is in the tenant's own keys.

    Args:
        cluster: the one that the spoke is on, for the record.
    """

    def __init__(self, redis: Redis, tenant: str, cluster: str = "") -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._cluster = cluster
        self.keys = TenantKeys(tenant)
        self.role = f"spoke of {tenant}"
        self.refused = False
        """As of the last try: the tenant's quota asks for no spoke, and the hub keeps its workers."""

    async def lead(self, replica: str, *, ttl_s: float) -> int | None:
        """Take or keep the lead. Returns the term, or None when another leads, or nobody may (`refused`)."""
        code, *told = await self._ask(replica, round(ttl_s * 1e6))
        self.refused = code == Refusal.ELSEWHERE
        return int(told[0]) if code == 1 else None

    async def resign(self, replica: str) -> None:
        """Give up the lead, if it is ours."""
        await self._ask(replica, 0)

    async def leader(self) -> str | None:
        """Who leads now."""
        with translated():
            leader, until = await self._redis.hmget(self.keys.spoke, "leader", "until")
            seconds, micros = await self._redis.time()
            return str(leader) if int(until or 0) > int(seconds) * 1_000_000 + int(micros) else None

    async def _ask(self, replica: str, for_us: int) -> list[int]:
        answer: list[int] = await self._scripts.run(
            "lead_swarm", [self.keys.root], replica, for_us, self._cluster
        )
        return answer
