"""A large mission through a whole fleet: planned in windows, shelved as it goes, read as any other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from chimera.agents.context import Context
from chimera.core.mission import MissionStatus
from chimera.core.shelving import BLOCK, most_standing
from chimera.core.task import Task
from chimera.core.waiting import Cause, why
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.planner import Planner
from chimera.runtime.retention import Retention
from chimera.store.uploads import LONGEST_S, Upload, note, unfinished
from tests.runtime.fleet import registry, running
from tests.store import drive
from tests.store.test_shelves import Leader, accept, shelver, work

TASKS = 6 * BLOCK


async def echo(task: Task, ctx: Context) -> Any:
    await asyncio.sleep(0.2)
    return {"said": task.context.input}


async def here(stores: TenantStores) -> int:
    """Tasks that are in Redis."""
    return sum(
        [1 async for _ in stores.tasks._redis.scan_iter(stores.tasks.keys.of("task", "*"), count=5_000)]
    )


async def test_a_large_mission_leaves_redis_while_it_goes_on(base: Base, tenant: str) -> None:
    settings = base.settings.model_copy(update={"slots": 100, "express_slots": 0, "plan_window": 200})
    object.__setattr__(base, "settings", settings)
    stores = base.of(tenant)
    mission = drive.spec(inputs=list(range(TASKS)))
    most = 0
    async with running(base, tenant, registry(echo=echo)) as fleet:
        await drive.submit(base, tenant, mission, large=True)

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, await here(stores))
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        ended = await fleet.rest(timeout_s=60)
        assert (ended.status, ended.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, TASKS)
        async with asyncio.timeout(20):
            while (await stores.shelf.standings())[0].shelved < TASKS:  # noqa: ASYNC110 (nothing waits for it)
                await asyncio.sleep(0.05)
        watching.cancel()
        reading = await stores.readings.open("m1")
        found = [task for at in range(0, TASKS, 100) for task in await reading.tasks(at, 100)]
        assert [task.result for task in found] == [{"said": number} for number in range(TASKS)]
    assert await here(stores) == 0
    # What is under way, and what waits for the rest of its block and for its lease to pass: never the whole.
    assert most <= TASKS - BLOCK


async def test_what_an_upload_that_died_left_behind_is_cleared(base: Base, tenant: str) -> None:
    async def begun(mission_id: str, age_s: float) -> None:
        upload = Upload(base.blobs, tenant, mission_id)
        await upload.add([b"1\n"] * 3_500)
        at_us = await base.of(tenant).missions.now_us() - round(age_s * 1e6)
        await base.blobs.write(note(tenant, mission_id), b"%d" % at_us)

    await begun("m1", 2 * LONGEST_S + 60)
    await begun("m2", 60)
    await begun("m3", 2 * LONGEST_S + 60)
    mission = drive.spec(inputs=[1])
    await base.of(tenant).missions.submit(
        "m3", mission, inputs=3_500, total_tasks=3_500, timeout_s=60, max_attempts=3, by="test"
    )
    await Retention(base, Leader()).run_once()  # type: ignore[arg-type]  # (all it asks of one)
    root = Path(base.settings.blob_location) / tenant
    assert sorted(path.name for path in root.glob("m?")) == ["m2", "m3"]
    assert await unfinished(base.blobs, tenant) == ["m2"]
    assert len(list((root / "m3").iterdir())) == 3


def narrow(base: Base) -> Base:
    """With as small a window as there is."""
    return replace(base, settings=base.settings.model_copy(update={"plan_window": BLOCK}))


async def planned(base: Base, tenant: str) -> int:
    """Plan what may be planned; how many tasks the mission has then."""
    await Planner(base).plan(tenant, "m1", term=drive.TERM, by="test")
    return (await base.of(tenant).missions.get("m1")).planned


async def test_planning_waits_for_the_shelver_and_goes_on_behind_it(base: Base, tenant: str) -> None:
    base = narrow(base)
    stores = base.of(tenant)
    most = most_standing(BLOCK)
    await drive.submit(base, tenant, drive.spec(inputs=list(range(2 * most))), large=True)
    at = 0
    while (reached := await planned(base, tenant)) > at:
        at = reached
        await work(stores)
    assert at == most + BLOCK, "the window beyond what may stand"
    quota = await base.tenants.quota(tenant)
    why_not = why(await stores.waiting.standing(f"m1.{at}", quota=quota, places=1, window=BLOCK))
    assert why_not.cause is Cause.PLANNING
    assert (why_not.figures["unshelved"], why_not.figures["max_unshelved"]) == (at, most)
    await shelver(base).tend(tenant, term=drive.TERM)
    assert await planned(base, tenant) == at + BLOCK
    why_not = why(await stores.waiting.standing(f"m1.{2 * most - 1}", quota=quota, places=1, window=BLOCK))
    assert "unshelved" not in why_not.figures


async def test_a_slow_task_in_each_block_never_stops_the_planning(base: Base, tenant: str) -> None:
    base = narrow(base)
    stores = base.of(tenant)
    inputs = 2 * most_standing(BLOCK)
    await drive.submit(base, tenant, drive.spec(inputs=list(range(inputs))), large=True)
    duty = shelver(base)
    at = 0
    while (reached := await planned(base, tenant)) > at:
        await accept(stores, reached - at)
        await duty.tend(tenant, term=drive.TERM)
        at = reached
    assert at == inputs
    assert (await stores.missions.get("m1")).counts["PENDING"] >= inputs // BLOCK


async def test_a_mission_that_is_not_large_is_planned_whatever_stands(base: Base, tenant: str) -> None:
    base = narrow(base)
    inputs = most_standing(BLOCK) + 2 * BLOCK
    await drive.submit(base, tenant, drive.spec(inputs=list(range(inputs))))
    at = 0
    while (reached := await planned(base, tenant)) > at:
        at = reached
        await work(base.of(tenant))
    assert at == inputs
