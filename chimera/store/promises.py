"""How well high priority was served: what the accepting scripts counted (lua/include/accept.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chimera.core.histogram import BOUNDS_MS
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Served:
    """One tenant's accepted tasks of high priority, since its first.

    Attributes:
        within: how many took at most each bound and more than the one before; the last, more than all bounds.
        seconds: how long all took together.
        breaches: how many took longer than promised.
    """

    within: tuple[int, ...]
    seconds: float
    breaches: int


async def served(redis: Redis, tenants: Sequence[str]) -> dict[str, Served]:
    """Of each tenant, in one round trip."""
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                pipe.hgetall(TenantKeys(tenant).slo)
            found = await pipe.execute()
    return {
        tenant: Served(
            tuple(int(counts.get(f"within:{n}", 0)) for n in range(1, len(BOUNDS_MS) + 2)),
            int(counts.get("ms", 0)) / 1000,
            int(counts.get("breaches", 0)),
        )
        for tenant, counts in zip(tenants, found, strict=True)
    }
