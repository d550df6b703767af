"""Small missions: planned in the step that acknowledges them, exactly as a leader would have planned them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chimera.core.mission import MissionStatus
from chimera.core.plan import SMALL_BYTES, SMALL_TASKS, is_small
from chimera.errors import QuotaReached
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.orchestrator import Orchestrator
from chimera.runtime.planner import LEAST
from chimera.store import keys
from chimera.store.signals import Wakeups
from tests.store import drive
from tests.store.test_repeats import state

DAG = {
    "strategy": "dag",
    "nodes": [{"name": "a", "input": {"n": 1}}, {"name": "b", "depends_on": ["a"], "accept_partial": True}],
}
PLANS: dict[str, dict[str, Any]] = {
    "map": {"inputs": ["x", None, {"ü": [1.5]}]},
    "map_reduce": {"inputs": [1, 2, 3], "plan": {"strategy": "map_reduce"}},
    "dag": {"inputs": [], "plan": DAG},
    "high, with a deadline": {"inputs": [1], "priority": "high", "deadline_s": 60.0},
}


def without(found: dict[str, str], *names: str) -> dict[str, str]:
    """What `state` found, but for keys of these names."""
    return {key: value for key, value in found.items() if not key.strip("'").endswith(names)}


async def recorded(base: Base, tenant: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(one.kind, one.task_id, one.details) async for _, one in base.of(tenant).recorder.read()]


@pytest.mark.parametrize("fields", PLANS.values(), ids=PLANS)
async def test_it_stands_as_if_a_leader_had_planned_it(
    fields: dict[str, Any], base: Base, tenant: str
) -> None:
    mission, other = drive.spec(**fields), f"{tenant}-planned"
    await drive.submit(base, tenant, mission, at_once=True)
    await drive.begin(base, other, mission)
    assert await recorded(base, tenant) == await recorded(base, other)
    mine, planned = await state(base, tenant), await state(base, other)
    # It is one entry of the log; nobody led, and nobody is to look.
    apart = ("r:log", "h:term:orchestrator", "q:dirty")
    assert without(mine, *apart) == without(planned, *apart)
    assert len(without(mine, *apart[1:])) == len(mine)


@pytest.mark.parametrize("fields", PLANS.values(), ids=PLANS)
async def test_the_receipt_has_it_as_it_is_read_afterwards(
    fields: dict[str, Any], base: Base, tenant: str
) -> None:
    mission = drive.spec(**fields)
    for at_once in (True, False):
        name = f"m{at_once:d}"
        receipt = await drive.acknowledge(base, tenant, mission, name, at_once=at_once)
        found = await base.of(tenant).missions.get(name)
        assert receipt.made is not None
        assert {**vars(receipt.made), "spec": None} == {**vars(found), "spec": None}
        assert receipt.made.spec.model_dump(exclude={"inputs"}) == found.spec.model_dump()


async def test_a_leader_leaves_it_as_it_is(base: Base, tenant: str) -> None:
    await drive.submit(base, tenant, drive.spec(), at_once=True)
    before = await state(base, tenant)
    hub = Orchestrator(
        base, Elector(base.election(f"role of {tenant}"), "hub"), Wakeups(base.blocking, "none")
    )
    assert not await hub.tend(tenant, term=drive.TERM, everything=True)
    assert without(await state(base, tenant), "h:term:orchestrator") == before


async def test_its_tasks_may_be_claimed_and_whoever_waits_for_work_is_told(base: Base, tenant: str) -> None:
    stores = base.of(tenant)
    async with asyncio.timeout(20), Wakeups(base.blocking, keys.LOAD) as load:
        while "heard" not in await load.wait(0.05):
            await base.redis.publish(keys.channel(keys.LOAD, "heard"), "")
        await drive.submit(base, tenant, drive.spec(), at_once=True)
        while tenant not in await load.wait(5):
            pass
    assert {one.input for one in await drive.claim(stores, 3)} == {1, 2, 3}
    await base.redis.zadd(stores.tasks.keys.workers, {"w1": 9e15, "w2": 9e15})
    await drive.submit(base, tenant, drive.spec(), "m2", at_once=True)
    assert await base.redis.llen(stores.tasks.keys.bell) == 2, "no more than there are"


async def test_of_any_other_the_hub_is_told(base: Base, tenant: str) -> None:
    async with asyncio.timeout(20), base.blocking.pubsub() as channel:
        await channel.subscribe(keys.channel(keys.MISSIONS, tenant))
        await drive.submit(base, tenant, drive.spec())
        while (await channel.get_message(timeout=5) or {}).get("type") != "message":
            pass
    assert await base.of(tenant).missions.dirty() == ["m1"]


async def test_a_tenant_at_its_quota_is_refused_and_nothing_of_it_is_made(base: Base, tenant: str) -> None:
    await drive.submit(base, tenant, drive.spec(), at_once=True)
    before = await state(base, tenant)
    with pytest.raises(QuotaReached, match="3 unfinished tasks, its quota allows 3"):
        await drive.submit(base, tenant, drive.spec(), "m2", at_once=True, max_ready=3, idempotency_key="k")
    assert await state(base, tenant) == before
    assert await drive.submit(base, tenant, drive.spec(), "m3", at_once=True, max_ready=4) == "m3"
    assert await base.of(tenant).missions.unfinished() == 6, "one task of room suffices, as for any mission"


async def test_one_that_was_made_before_is_not_planned_again(base: Base, tenant: str) -> None:
    for at_once in (True, False, True):
        assert await drive.submit(base, tenant, drive.spec(), at_once=at_once, idempotency_key="k") == "m1"
        assert (await base.of(tenant).missions.get("m1")).counts["READY"] == 3
    await drive.submit(base, tenant, drive.spec(), "m2")
    receipt = await drive.acknowledge(base, tenant, drive.spec(), "m2", at_once=True)
    assert receipt == ("m2", None)
    assert (await base.of(tenant).missions.get("m2")).status is MissionStatus.PLANNING


def test_what_is_small() -> None:
    assert is_small(SMALL_TASKS, SMALL_BYTES, 2_000)
    assert not is_small(SMALL_TASKS + 1, 0, 2_000)
    assert not is_small(1, SMALL_BYTES + 1, 2_000)
    assert not is_small(11, 0, 10), "its window has no room for all"
    assert SMALL_TASKS <= LEAST, "no quota keeps a planner from so many"
