"""Flags: what limits refused, kept until somebody says that it is seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from chimera.core.report import OF_MISSION
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Scripts

MOST_FLAGS = 200
"""Flags of a tenant; refusals beyond them are counted in one of their level that names no mission."""
ALL = "*"


@dataclass(frozen=True, slots=True)
class Flag:
    """Refusals of one level, of one mission where it is its budget; money in µ$, instants in µs."""

    level: str
    mission_id: str
    kind: str
    count: int
    first_us: int
    last_us: int
    amount: int
    fits: int
    limit: int


class Flags:
    """One tenant's flags. `reserve_holds.lua` raises them."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def all(self) -> list[Flag]:
        """Those that nobody has acknowledged, the last raised first."""
        return (await flags_of(self._redis, [self.keys.tenant]))[self.keys.tenant]

    async def acknowledge(self, names: Sequence[str], operation: str, *, by: str, comment: str = "") -> int:
        """Take flags down, once for an operation; refused again, one comes back. Returns how many went.

        Args:
            names: levels, each with all its missions, or one mission's as ``mission MISSION``; `ALL`: every
                one.
        """
        return int(
            await self._scripts.run("acknowledge_flags", [self.keys.root], operation, by, comment, *names)
        )


async def flags_of(redis: Redis, tenants: Sequence[str]) -> dict[str, list[Flag]]:
    """The same of many tenants, in one round trip."""
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                pipe.hgetall(TenantKeys(tenant).flags)
            found = await pipe.execute()
        return {
            tenant: sorted(
                (_flag(name, text) for name, text in flags.items()),
                key=lambda one: (-one.last_us, one.level, one.mission_id),
            )
            for tenant, flags in zip(tenants, found, strict=True)
        }


def _flag(name: str, text: str) -> Flag:
    mission_id = name.removeprefix(OF_MISSION) if name.startswith(OF_MISSION) else ""
    told = json.loads(text)
    return Flag(
        "mission" if mission_id else name,
        mission_id,
        str(told["kind"]),
        *(int(told[one]) for one in ("count", "first", "last", "amount", "fits", "limit")),
    )
