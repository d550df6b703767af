"""One worker: what it holds twice, hands back, or can give to nobody."""

from __future__ import annotations

import asyncio
from typing import Any

from chimera.agents.context import Context
from chimera.core.task import Task
from chimera.runtime.base import Base
from tests.runtime.fleet import registry, running
from tests.store import drive


async def test_the_end_of_a_lost_attempt_takes_nothing_from_the_new_one_of_the_same_task(
    base: Base, tenant: str
) -> None:
    begun, go_on = [asyncio.Event(), asyncio.Event()], asyncio.Event()

    async def patient(task: Task, ctx: Context) -> Any:
        begun[ctx.attempt - 1].set()
        await go_on.wait()
        return ctx.attempt

    async with running(base, tenant, registry(patient=patient)) as fleet:
        await fleet.submit(drive.spec(agent="patient", inputs=["x"]))
        await begun[0].wait()
        # Its lease runs out although it lives; it takes the task again before it is told.
        await base.redis.zadd(fleet.stores.tasks.keys.leases, {"m1.0": 1})
        await fleet.stores.tasks.rescue("test", lease_s=base.settings.lease_s)
        await begun[1].wait()
        await asyncio.sleep(2 * base.settings.lease_s)  # what it holds now it must keep
        go_on.set()
        mission = await fleet.rest()
        assert mission.tallies == {"lapses": 1}
        assert (await fleet.stores.tasks.get("m1.0")).result == 2
