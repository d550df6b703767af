"""Tallies: totals that the scripts count (lua/include/record.lua), read for many tenants at once."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.core.tally import FIELDS, Tally
from chimera.store.connection import Redis, ask, translated
from chimera.store.keys import TenantKeys


async def tallies(redis: Redis, tenants: Sequence[str]) -> dict[str, Tally]:
    """Each tenant's, since its first event, in one round trip.

    By the fields that are known, not all there are: a worker may make more, and holds nobody up with them.
    """
    if not tenants:
        return {}
    with translated():
        found = await ask(redis, [("HMGET", TenantKeys(tenant).tally, *FIELDS) for tenant in tenants])
    return {tenant: Tally.parse(values) for tenant, values in zip(tenants, found, strict=True)}
