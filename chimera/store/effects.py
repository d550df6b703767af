"""What a tenant has under way, in a few figures: what a freeze would stop."""

from __future__ import annotations

from dataclasses import dataclass

from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Effects:
    """Of one tenant.

    Attributes:
        missions: that are not over; `goals` of some of them.
        waiting: tasks that wait: to be claimed, for others, for a judge.
        leases: attempts under way.
        calls: paid calls under way: open holds.
    """

    missions: int
    goals: tuple[str, ...]
    waiting: int
    leases: int
    calls: int


async def effects(redis: Redis, tenant: str, *, goals: int) -> Effects:
    """What it has under way, in two round trips."""
    keys = TenantKeys(tenant)
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.active)
            pipe.zrange(keys.active, 0, goals - 1)
            pipe.get(keys.open)
            pipe.zcard(keys.leases)
            pipe.zcard(keys.holds)
            missions, some, opened, leases, calls = await pipe.execute()
        async with redis.pipeline(transaction=False) as pipe:
            for mission_id in some:
                pipe.hget(keys.of("mission", mission_id), "goal")
            found = await pipe.execute()
    waiting = max(0, int(opened or 0) - int(leases))
    return Effects(int(missions), tuple(goal for goal in found if goal), waiting, int(leases), int(calls))
