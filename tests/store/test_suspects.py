"""Tasks that bring their workers down are found out; those that were only there are not blamed."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from chimera.core.lease import Claim
from chimera.runtime.base import Base, TenantStores
from chimera.store.tasks import POISON_AFTER, Ended
from tests.store import drive


class World(NamedTuple):
    """So many tasks, some of which kill the worker that runs them."""

    tasks: int
    poison: frozenset[int]
    slots: int


@strategies.composite
def worlds(draw: strategies.DrawFn) -> World:
    tasks = draw(strategies.integers(1, 40))
    poison = draw(strategies.frozensets(strategies.integers(0, tasks - 1), max_size=3))
    return World(tasks, poison, draw(strategies.integers(1, 20)))


async def live(base: Base, stores: TenantStores, world: World) -> int:
    """Workers come and claim; one that got poison dies with all it holds. Returns how many died."""
    died = 0
    poison = {f"m1.{number}" for number in world.poison}
    for worker in range(1_000):
        # What was put off for a moment comes back: nobody waits for it here.
        later = await base.redis.zrange(stores.tasks.keys.later, 0, -1)
        if later:
            await base.redis.zadd(stores.tasks.keys.later, dict.fromkeys(later, 1))
        held = await drive.claim(stores, world.slots, worker=f"w{worker}", slots=world.slots)
        if not held and not later:
            return died
        if poison & {one.task_id for one in held}:
            assert await stores.tasks.release(f"w{worker}", "hub") == len(held)
            died += 1
        else:
            for one in held:
                assert await drive.hand_in(stores, one, worker=f"w{worker}") is None
    raise AssertionError("it never ends")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds())
async def test_poison_is_found_and_nobody_else_is_blamed(base: Base, tenant: str, world: World) -> None:
    await base.redis.delete(*(await base.redis.keys(f"{{{tenant}}}:*") or ["none"]))
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(world.tasks))))
    died = await live(base, stores, world)
    tasks = await stores.tasks.get_many([f"m1.{number}" for number in range(world.tasks)])
    poisoned = {number for number, task in enumerate(tasks) if task.status == "FAILED"}
    assert poisoned == set(world.poison)
    assert {task.reason for number, task in enumerate(tasks) if number in poisoned} <= {"poisoned"}
    assert {task.status for number, task in enumerate(tasks) if number not in poisoned} <= {"REVIEW"}
    # After the first death company shrinks by four with each, then it dies alone.
    assert died <= len(world.poison) * (4 + POISON_AFTER)


async def test_one_poison_among_a_thousand_costs_few_workers(base: Base, tenant: str) -> None:
    world = World(1_000, frozenset({500}), 64)
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(world.tasks))))
    died = await live(base, stores, world)
    mission = await stores.missions.get("m1")
    assert (mission.counts["REVIEW"], mission.counts["FAILED"]) == (999, 1)
    assert died <= 4 + POISON_AFTER


async def test_after_a_first_death_tasks_run_anywhere_and_then_in_ever_smaller_company(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(64))))
    company = []
    for number in range(5):
        # What was put off for a moment comes back: nobody waits for it here.
        for later in await base.redis.zrange(stores.tasks.keys.later, 0, -1):
            await base.redis.zadd(stores.tasks.keys.later, {later: 1})
        held = await drive.claim(stores, 64, worker=f"w{number}", slots=64)
        company.append(len(held))
        await stores.tasks.release(f"w{number}", "hub")
        # The others have had no further death: leave only those that fell together.
        for one in await stores.tasks.get_many(await stores.missions.task_ids("m1")):
            if one.task_id not in {each.task_id for each in held}:
                await base.redis.hset(stores.tasks.keys.of("task", one.task_id), "status", "BLOCKED")
    assert company == [64, 64, 16, 4, 1]


async def leased(stores: TenantStores, worker: str) -> Claim:
    (one,) = await drive.claim(stores, worker=worker)
    return one


@pytest.mark.parametrize("kind", ["error", "timeout"])
async def test_an_attempt_that_its_worker_outlives_clears_the_suspicion(
    base: Base, tenant: str, kind: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"], max_attempts=50))
    for number in range(POISON_AFTER + 2):
        await leased(stores, f"dies{number}")
        await stores.tasks.release(f"dies{number}", "hub")
        one = await leased(stores, f"lives{number}")
        await stores.tasks.end(f"lives{number}", [Ended(one.task_id, one.token, kind, "no")])  # type: ignore[arg-type]  # (wider than declared, on purpose)
    task = await stores.tasks.get("m1.0")
    assert (task.status, task.tallies["crashes"]) == ("READY", POISON_AFTER + 2)


async def test_a_released_worker_is_fenced(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    old = await leased(stores, "w1")
    assert await stores.tasks.release("w1", "hub") == 1
    new = await leased(stores, "w2")
    lost = await drive.hand_in(stores, old)
    assert "w2" in str(lost)
    assert await drive.hand_in(stores, new, worker="w2") is None
    assert await stores.tasks.release("w1", "hub") == 0


async def test_release_finds_its_tasks_among_many_leases_in_small_steps(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(30))))
    for turn in range(5):
        for worker in ("a", "b"):
            await drive.claim(stores, 3, worker=worker, claim_id=f"{worker}{turn}")
    assert await stores.tasks.release("a", "hub", most=4) == 15
    mission = await stores.missions.get("m1")
    assert (mission.counts["PENDING"], mission.counts["READY"]) == (15, 15)


async def test_a_worker_that_was_ended_leaves_no_suspect(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    for number in range(2 * POISON_AFTER):
        held = await drive.claim(stores, 2, worker=f"w{number}")
        assert await stores.tasks.release(f"w{number}", "supervisor", died=False) == len(held) == 2
    for task in await stores.tasks.get_many(["m1.0", "m1.1"]):
        assert (task.status, task.tallies) == ("READY", {})
    kinds = [event.kind async for _, event in stores.recorder.read()]
    assert kinds.count("task.returned") == 4 * POISON_AFTER
    assert "task.rescued" not in kinds


async def test_what_waits_for_other_company_is_work_for_more_workers(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(8))))
    for number in range(2):
        await drive.claim(stores, 8, worker=f"w{number}", slots=8)
        await stores.tasks.release(f"w{number}", "hub")
    # After two deaths a worker of eight slots takes two of them; the others wait a moment.
    assert len(await drive.claim(stores, 8, worker="w2", slots=8)) == 2
    assert (await stores.tasks.load())[:3] == (6, 2, 0)
