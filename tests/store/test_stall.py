"""A stall of the store is no evidence against a worker."""

from __future__ import annotations

import asyncio

import pytest

from chimera.runtime.base import Base, TenantStores
from chimera.store.reach import Reach
from tests.store import drive

LEASE_S = 0.6


async def test_no_lease_is_rescued_for_one_lease_after_nobody_reached_the_store(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    await stores.tasks.rescue("hub", lease_s=LEASE_S)
    await drive.claim(stores, 2, lease_s=LEASE_S)
    await base.redis.hincrby(stores.tasks.keys.pulse, "at", -10_000_000)
    await base.redis.zadd(stores.tasks.keys.leases, {"m1.0": 1, "m1.1": 1})
    assert (await stores.tasks.rescue("hub", lease_s=LEASE_S))[0] == 0
    assert await drive.claim(stores, 2, worker="w2", lease_s=LEASE_S) == [], "nor does a claim rescue"
    async with asyncio.timeout(10):
        while not (rescued := (await stores.tasks.rescue("hub", lease_s=LEASE_S))[0]):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)  # the clock is Redis' own
    assert rescued == 2


async def test_a_steady_pulse_rescues_at_once(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    await stores.tasks.rescue("hub", lease_s=LEASE_S)
    await drive.claim(stores, 1, lease_s=0)
    assert (await stores.tasks.rescue("hub", lease_s=LEASE_S))[0] == 1


async def looked_away(base: Base, tenant: str) -> TenantStores:
    """A tenant with a lease that ran out, at which nobody looked for ten seconds."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    await stores.tasks.rescue("hub", lease_s=LEASE_S)
    await drive.claim(stores, 1, lease_s=0)
    await base.redis.hincrby(stores.tasks.keys.pulse, "at", -10_000_000)
    return stores


async def test_who_heard_the_store_all_the_while_knows_that_only_nobody_looked(
    base: Base, tenant: str
) -> None:
    stores = await looked_away(base, tenant)
    now = await stores.missions.now_us()
    steady = Reach(steady_us=now - 60_000_000, heard_us=now)
    assert (await stores.tasks.rescue("hub", lease_s=LEASE_S, reach=steady))[0] == 1


@pytest.mark.parametrize(
    ("steady_s", "heard_s"),
    [(5, 0), (60, 5), (0, 0)],
    ids=[
        "it lost the store meanwhile",
        "this very call came late",
        "it heard it just now for the first time",
    ],
)
async def test_a_gap_in_what_one_heard_excuses_none(
    steady_s: int, heard_s: int, base: Base, tenant: str
) -> None:
    stores = await looked_away(base, tenant)
    now = await stores.missions.now_us()
    reach = Reach(steady_us=now - steady_s * 1_000_000, heard_us=now - heard_s * 1_000_000)
    assert (await stores.tasks.rescue("hub", lease_s=LEASE_S, reach=reach))[0] == 0


async def test_many_tenants_looked_at_in_turn_are_all_rescued_however_long_a_turn_takes(
    base: Base, tenant: str
) -> None:
    """A turn longer than half a lease, though the store answers all the while."""
    tenants = [f"{tenant}-{number}" for number in range(4)]
    reach, rescued = Reach(), dict.fromkeys(tenants, 0)
    for name in tenants:
        stores = await drive.begin(base, name, drive.spec(inputs=[1]))
        await stores.tasks.rescue("hub", lease_s=LEASE_S, reach=reach)
        await drive.claim(stores, 1, lease_s=0)
    async with asyncio.timeout(20):
        while not all(rescued.values()):
            for name in tenants:
                await asyncio.sleep(0.2)  # what a slow store, or many more tenants, would take
                rescued[name] += (await base.of(name).tasks.rescue("hub", lease_s=LEASE_S, reach=reach))[0]
    assert set(rescued.values()) == {1}


def test_reach_is_broken_by_a_pause_of_half_a_lease_and_by_nothing_shorter() -> None:
    reach = Reach()
    for now_us in (10_000_000, 10_250_000, 10_500_000, 10_400_000):
        reach.hear(now_us, lease_s=LEASE_S)
    assert (reach.steady_us, reach.heard_us) == (10_000_000, 10_500_000)
    reach.hear(10_900_000, lease_s=LEASE_S)
    assert (reach.steady_us, reach.heard_us) == (10_900_000, 10_900_000)
