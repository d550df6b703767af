"""claim_actions.lua: due actions under leases, each with one courier."""

from __future__ import annotations

import asyncio

from chimera.runtime.base import Base
from tests.store import drive


async def test_an_action_is_claimed_with_a_token_and_a_lease(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (one,) = await drive.errands(stores, lease_s=5)
    assert (one.action_id, one.tries) == ("m1.0/0", 0)
    assert 4.9 < one.lease_s <= 5
    (record,) = await stores.actions.get_many(["m1.0/0"])
    assert (record.courier, record.lapses) == ("c1", 0)
    assert await drive.errands(stores, "c2") == []


async def test_two_couriers_never_hold_the_same_action(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant, [drive.HOOK] * 16)
    taken = await asyncio.gather(*(drive.errands(stores, f"c{n}") for n in range(4)))
    ids = [one.action_id for batch in taken for one in batch]
    assert len(ids) == len(set(ids)) == 16


async def test_an_expired_lease_is_claimed_by_another_and_counted(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (first,) = await drive.errands(stores, lease_s=0)
    (second,) = await drive.errands(stores, "c2")
    assert second.token > first.token
    (record,) = await stores.actions.get_many(["m1.0/0"])
    assert (record.courier, record.lapses) == ("c2", 1)
    claims = [e.details async for _, e in stores.recorder.read() if e.kind == "action.claimed"]
    assert claims == [{"index": 0}, {"index": 0, "lapsed": True}]


async def test_after_an_outage_a_courier_has_time_to_say_what_it_sent(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (first,) = await drive.errands(stores, lease_s=0)
    # The store was out of reach: nobody has left the time for a minute.
    await base.redis.hset(stores.actions.keys.pulse, mapping={"at": 1, "grace": 0})
    assert await drive.errands(stores, "c2", grace_s=30) == []
    assert await drive.report(stores, first)


async def test_an_outage_holds_up_no_action_that_nobody_held(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    await base.redis.hset(stores.actions.keys.pulse, mapping={"at": 1, "grace": 0})
    assert len(await drive.errands(stores, grace_s=30)) == 1
