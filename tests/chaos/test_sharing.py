"""More tenants than places: they take turns, urgent work waits for none, nothing is lost or counted."""

from __future__ import annotations

import time

import pytest

from chimera.core.event import Event
from chimera.core.mission import MissionStatus
from chimera.runtime.staffing import REPLACEMENTS
from tests.chaos.world import World, until
from tests.store import drive

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

PLACES, PREEMPT_S = 3, 2.0


async def events(world: World, tenant: str, *kinds: str) -> list[Event]:
    """The recorder's entries of a tenant."""
    return [event async for _, event in world.base.of(tenant).recorder.read() if event.kind in kinds]


async def claimed(world: World, tenant: str, mission_id: str) -> bool:
    return any(event.mission_id == mission_id for event in await events(world, tenant, "task.claimed"))


async def test_ten_tenants_on_three_places_all_make_progress_and_what_is_urgent_starts_in_time(
    world: World,
) -> None:
    tenants = [f"t{number}" for number in range(10)]
    for tenant in tenants:
        await world.base.tenants.add(tenant)
    await world.up("planner-and-judge")
    endless = drive.spec(agent="gated", inputs=[str(world.gate())] * 4, task_timeout_s=300)
    async with world.controlled(max_workers=PLACES, preempt_s=PREEMPT_S, slots=4, idle_s=5) as workers:
        # The first three have all places, and never give one back by themselves.
        for tenant in tenants[:3]:
            await world.submit(endless, "long", tenant)
        for tenant in tenants[:3]:

            async def under_way(tenant: str = tenant) -> bool:
                return await claimed(world, tenant, "long")

            await until(under_way, f"{tenant} has a place")
        for tenant in tenants[3:9]:
            await world.submit(endless, "long", tenant)
        await world.submit(drive.spec(inputs=["now"], priority="high"), "urgent", "t9")

        async def started() -> bool:
            return await claimed(world, "t9", "urgent")

        # Within `PREEMPT_S` where there is a processor; the work in its way never ends by itself.
        await until(started, "the urgent task has started", timeout_s=5 * PREEMPT_S)
        for tenant in tenants[3:9]:

            async def has_had_a_turn(tenant: str = tenant) -> bool:
                return await claimed(world, tenant, "long")

            await until(has_had_a_turn, f"{tenant} has had a turn", timeout_s=60)
        assert workers.most <= PLACES + REPLACEMENTS
        world.gate().touch()
        for tenant in tenants[:9]:

            async def done(tenant: str = tenant) -> bool:
                mission = await world.base.of(tenant).missions.get("long")
                return mission.status is MissionStatus.COMPLETED

            await until(done, f"{tenant} is done", timeout_s=60)
    for tenant in tenants[:9]:
        assert (await world.base.of(tenant).missions.get("long")).tallies == {}, "handed back uncounted"
        assert await events(world, tenant, "task.rescued") == [], "no lease ran out, no worker died"
    assert any([await events(world, tenant, "task.returned") for tenant in tenants[:3]])
    scaled = await events(world, "t0", "fleet.scaled")
    assert scaled[0].details["workers"] == 1
    assert any(event.details["workers"] == 0 and event.details["scarce"] for event in scaled)


async def test_high_priority_work_of_a_worker_that_must_leave_goes_on(world: World) -> None:
    await world.up("planner-and-judge")
    worker = await world.up("worker")
    for priority in ("high", "low"):
        mission = drive.spec(
            agent="gated", inputs=[str(world.gate(priority))], task_timeout_s=300, priority=priority
        )
        await world.submit(mission, priority)
        await world.mission(lambda one: one.counts["PENDING"] == 1, "it is under way", priority)
    await world.stores.tasks.drain("worker", within_s=0.5)
    await world.mission(lambda one: one.counts["READY"] == 1, "the low one was handed back", "low")
    assert await world.held_by("worker") == ["high.0"]
    world.gate("high").touch()
    await world.final("high")
    await worker.ended()
    (returned,) = await world.events("task.returned")
    assert returned.mission_id == "low"
    (claim,) = [one for one in await world.events("task.claimed") if one.mission_id == "high"]
    assert claim.by == "worker"


async def test_a_spare_is_one_tenants_at_its_first_work_and_no_others_ever(world: World) -> None:
    for tenant in ("acme", "other"):
        await world.base.tenants.add(tenant)
    await world.up("planner-and-judge")
    # No place at all, as on a cluster without a node: all that works is what the spares do.
    async with world.controlled(max_workers=1, spares=1, idle_s=3600) as workers:
        (spare,) = await workers.ready_spares(1)
        began = time.time()
        workers.closed = True
        await world.submit(drive.spec(inputs=["x"]))
        await world.final()
        (first,) = await world.events("task.claimed")
        assert first.by == spare.name
        assert first.at.timestamp() - began < 1.5
        await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())]), "m2", "other")

        async def asked() -> bool:
            return workers.refused.get("other", 0) > 0

        await until(asked, "a worker of its own is asked for")
        assert await events(world, "other", "task.claimed") == [], "the spare is not its"
        workers.closed = False

        async def served() -> bool:
            return await claimed(world, "other", "m2")

        await until(served, "a worker of its own serves it")
        (claim,) = await events(world, "other", "task.claimed")
        assert claim.by != spare.name
        world.gate().touch()


async def test_a_used_spare_makes_room_for_a_worker_and_is_replaced(world: World) -> None:
    await world.up("planner-and-judge")
    async with world.controlled(max_workers=1, spares=1) as workers:
        (spare,) = await workers.ready_spares(1)
        await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())] * 3))
        await world.mission(lambda one: one.counts["PENDING"] == 3, "the spare has them")
        assert len(await world.held_by(spare.name)) == 3

        async def relieved() -> bool:
            return len(await world.stores.tasks.workers()) == 2

        await until(relieved, "a worker with a place is there too")
        world.gate().touch()
        await world.final()
        await spare.ended()
        (another,) = await workers.ready_spares(1)
        assert another.name != spare.name
    await world.committed_once(3)
    assert await world.events("task.returned", "task.rescued") == []


async def test_a_stream_of_short_tasks_keeps_its_worker_beside_a_tenant_that_wants_every_place(
    world: World,
) -> None:
    for tenant in ("stream", "noisy"):
        await world.base.tenants.add(tenant)
    await world.up("planner-and-judge")
    endless = drive.spec(agent="gated", inputs=[str(world.gate())] * 40, task_timeout_s=300)
    async with world.controlled(max_workers=2, slots=4, idle_s=5):
        await world.submit(endless, "long", "noisy")

        async def begun() -> bool:
            return await claimed(world, "noisy", "long")

        await until(begun, "the noisy tenant works")
        submitted = 0
        began = time.monotonic()
        # One after another, with nothing in between: most looks find no work at all.
        while time.monotonic() - began < 8:
            name = f"short{submitted}"
            await world.submit(drive.spec(inputs=["x"], priority="high"), name, "stream")

            async def done(name: str = name) -> bool:
                return (await world.base.of("stream").missions.get(name)).status is MissionStatus.COMPLETED

            await until(done, f"{name} is done")
            submitted += 1
        world.gate().touch()
    assert submitted > 20
    assert len(await events(world, "stream", "worker.started")) == 1
    scaled = [event.details["workers"] for event in await events(world, "stream", "fleet.scaled")]
    assert scaled == [1]
