"""A stall of the store is no evidence against a worker."""

from __future__ import annotations

import asyncio

from chimera.runtime.base import Base
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
        while not (rescued := (await stores.tasks.rescue("hub", lease_s=LEASE_S))[0]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the clock is Redis' own
    assert rescued == 2


async def test_a_steady_pulse_rescues_at_once(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    await stores.tasks.rescue("hub", lease_s=LEASE_S)
    await drive.claim(stores, 1, lease_s=0)
    assert (await stores.tasks.rescue("hub", lease_s=LEASE_S))[0] == 1
