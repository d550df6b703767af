"""A suspended tenant's work waits, whole, until it is resumed: real services, real Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from chimera.agents.context import Context
from chimera.agents.purse import Charge
from chimera.core.mission import MissionStatus
from chimera.core.task import Task, TaskStatus
from chimera.runtime.base import Base
from chimera.store.missionrecord import MissionRecord
from tests.runtime.fleet import registry, running
from tests.store import drive


async def test_what_is_under_way_waits_for_money_the_rest_for_a_worker_and_all_of_it_ends_after_the_resume(
    base: Base, tenant: str
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pays(task: Task, ctx: Context) -> Any:
        begun.set()
        await go_on.wait()
        hold = await ctx.model.purse.reserve(amount_microusd=500, model="m", agent="pays", ttl_s=60)
        await ctx.model.purse.settle(hold, cost_microusd=300, charge=Charge("m", 1, 1, 300, "test"))
        return f"paid for {task.input}"

    async with running(base, tenant, registry(pays=pays)) as fleet:
        await fleet.submit(drive.spec(agent="pays", inputs=list(range(60))))
        await begun.wait()
        await base.tenants.suspend(tenant, "s", by="test", reason="unpaid")
        go_on.set()

        def handed_back(mission: MissionRecord) -> bool:
            return mission.counts[TaskStatus.PENDING] == 0

        held = await fleet.until(handed_back, timeout_s=60)
        assert (held.counts["READY"], held.settled_microusd, held.held_microusd) == (60, 0, 0)
        assert await base.tenants.resume(tenant, "r", by="test", reason="paid")
        mission = await fleet.rest(timeout_s=60)
        events = [event async for _, event in fleet.stores.recorder.read()]
    assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 60)
    assert mission.settled_microusd == 60 * 300
    assert mission.tallies == {}, "no attempt was counted"
    kinds = [event.kind for event in events]
    meanwhile = kinds[kinds.index("tenant.suspended") : kinds.index("tenant.resumed")]
    assert not {"task.claimed", "spend.held"} & set(meanwhile)
    assert {event.details["level"] for event in events if event.kind == "spend.refused"} == {
        "tenant/suspended"
    }
