"""Tenants' own limits and what is settled in the windows that run, read for many tenants at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chimera.core.calendar import window_ids
from chimera.core.money import Window
from chimera.store.connection import Redis, ask, translated
from chimera.store.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit of a tenant, µ$, and what is settled in its window."""

    limit: int
    settled: int


async def bounds(redis: Redis, tenants: Sequence[str]) -> dict[str, dict[Window, Bound]]:
    """Each tenant's limits over all its calls, in two round trips; not those of its agents and models."""
    if not tenants:
        return {}
    with translated():
        seconds, micros = await redis.time()
        at = datetime.fromtimestamp(int(seconds) + int(micros) / 1e6, UTC)
        windows = [f"settled:{name}" for name in window_ids(at)]
        asked: list[tuple[str | int, ...]] = []
        for keys in map(TenantKeys, tenants):
            asked += [("HMGET", keys.limits, *Window), ("HMGET", keys.ledger, *windows)]
        found = await ask(redis, asked)
        return {
            tenant: {
                window: Bound(int(limit), int(settled or 0))
                for window, limit, settled in zip(Window, limits, spent, strict=True)
                if limit
            }
            for tenant, limits, spent in zip(tenants, found[::2], found[1::2], strict=True)
        }
