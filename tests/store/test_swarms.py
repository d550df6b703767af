"""How the whole fleet stands, read in a few round trips."""

from __future__ import annotations

import pytest

from bench import busy
from chimera.core.task import Priority
from chimera.errors import CorruptRecord
from chimera.runtime.base import Base
from chimera.store.brakes import BrakeStore, Order
from chimera.store.damage import apart
from chimera.store.promises import lately
from chimera.store.series import add, look
from chimera.store.swarms import MOST_CHANGES, ages, changes, swarms
from tests.redis_fixtures import logged_in
from tests.store import drive


async def test_workers_are_counted_once_by_state(base: Base, tenant: str) -> None:
    await busy.stage(base, [tenant], agents=50)
    tasks = base.of(tenant).tasks
    await tasks.drain(f"{tenant}-3")
    one = (await swarms(base.redis, [tenant]))[tenant]
    # Of four wanted and one more, the first drains since it was made, the last from now on.
    assert (one.wanted, one.busy, one.idle, one.draining, one.lost, one.starting) == (5, 2, 0, 2, 0, 3)
    assert (one.slots, one.slots_busy) == (4 * busy.SLOTS, 50)
    assert (one.leases, one.overdue) == (46, 0)
    await base.redis.zadd(tasks.keys.workers, {f"{tenant}-3": 1})
    await base.redis.hset(tasks.keys.of("worker", f"{tenant}-2"), "busy", 0)
    one = (await swarms(base.redis, [tenant]))[tenant]
    assert (one.busy, one.idle, one.draining, one.lost) == (1, 1, 1, 1)


async def test_queues_are_counted_by_priority_and_the_first_in_line_says_how_long(
    base: Base, tenant: str
) -> None:
    assert (await swarms(base.redis, [tenant]))[tenant].oldest_s is None
    await busy.submit(base, tenant, Priority.LOW, 3)
    first = (await swarms(base.redis, [tenant]))[tenant]
    assert first.oldest_s is not None
    await busy.submit(base, tenant, Priority.HIGH, 2)
    one = (await swarms(base.redis, [tenant]))[tenant]
    assert one.ready == {Priority.HIGH: 2, Priority.MEDIUM: 0, Priority.LOW: 3}
    assert one.oldest_s is not None
    assert one.oldest_s > first.oldest_s, "the longest wait counts, not the newest"


async def test_what_waits_for_a_verdict_a_human_or_the_operator_is_told(base: Base, tenant: str) -> None:
    await busy.stage(base, [tenant], agents=20)
    await BrakeStore(base.redis).order(tenant, Order.FREEZE, "f", by="o", reason="a look", of_fleet=True)
    await base.tenants.suspend(tenant, "s", by="o", reason="unpaid")
    one = (await swarms(base.redis, [tenant]))[tenant]
    assert (one.reviews, one.inbox, one.brake, one.suspended) == (1, 1, "frozen", True)


async def test_a_lease_that_ran_out_and_nobody_took_back_is_told(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await drive.claim(stores, 2)
    leases = await base.redis.zrange(stores.tasks.keys.leases, 0, 0)
    await base.redis.zadd(stores.tasks.keys.leases, {leases[0]: 1})
    one = (await swarms(base.redis, [tenant]))[tenant]
    assert (one.leases, one.overdue) == (2, 1)


async def test_leases_are_as_old_as_their_claims(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    claims = await drive.claim(stores, 2)
    key = stores.tasks.keys.of("task", claims[0].task_id)
    claimed_at = int(await base.redis.hget(key, "claimed_at"))
    await base.redis.hset(key, "claimed_at", claimed_at - 90_000_000)
    found, count = await ages(base.redis, [tenant])
    assert count == 2
    assert sorted(age >= 90 for age in found) == [False, True]


async def test_changes_of_how_many_workers_are_wanted_are_kept_newest_first_and_not_for_ever(
    base: Base, tenant: str
) -> None:
    other = f"{tenant}-other"
    tasks = base.of(tenant).tasks
    why = {"backlog": 7, "running": 1, "scarce": False}
    for workers in range(1, 60):
        await tasks.scaled(workers, why=why, term=drive.TERM, by="c")
    await tasks.scaled(59, why=why, term=drive.TERM, by="c")
    await base.of(other).tasks.scaled(1, why={**why, "scarce": True}, term=drive.TERM, by="c")
    found = await changes(base.redis, [tenant, other], 3)
    assert [(one.tenant, one.before, one.workers, one.scarce) for one in found] == [
        (other, 0, 1, True),
        (tenant, 58, 59, False),
        (tenant, 57, 58, False),
    ]
    assert found[1].backlog == 7
    assert len(await changes(base.redis, [tenant], 1_000)) == MOST_CHANGES
    assert await base.redis.llen(tasks.keys.scaled) == 50


async def test_a_tenant_that_cannot_be_read_hides_no_other(base: Base, tenant: str) -> None:
    broken = f"{tenant}-broken"
    await base.redis.set(base.of(broken).tasks.keys.leases, "no zset")
    with pytest.raises(CorruptRecord):
        await swarms(base.redis, [tenant, broken])
    found, damaged = await apart([tenant, broken], lambda some: swarms(base.redis, some))
    assert (set(found), set(damaged)) == ({tenant}, {broken})


async def test_the_gateway_and_the_dashboard_may_read_it_all(base: Base, tenant: str) -> None:
    await busy.stage(base, [tenant], agents=20)
    for role in ("gateway", "dashboard"):
        async with logged_in(base.settings, role) as at:
            assert (await swarms(at.redis, [tenant]))[tenant].leases == 16
            assert (await ages(at.redis, [tenant]))[1] == 16
            assert len(await changes(at.redis, [tenant], 5)) == 1
            assert (await lately(at.redis, [tenant], 300)).breaches == 0


async def test_what_was_accepted_lately_is_what_the_tally_gained_since_the_sample_before(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(priority="high"))
    await drive.finish(stores, 3)
    assert (await lately(base.redis, [tenant], 300)).times.count == 3, "no sample yet: all of it is new"
    sample = (await look(base.redis, [tenant]))[tenant]
    await add(base.redis, {tenant: [sample]}, term=drive.TERM)
    assert (await lately(base.redis, [tenant], 300)).times.count == 3, (
        "that sample is no older than the window"
    )
    assert (await lately(base.redis, [tenant], 0)).times.count == 0, "behind it nothing came"
    assert (await lately(base.redis, [], 300)).times.count == 0
