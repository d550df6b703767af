"""report_actions.lua: what came of a try, from the courier that holds the action and no other."""

from __future__ import annotations

from chimera.core.action import ActionStatus
from chimera.runtime.base import Base
from tests.store import drive


async def test_what_was_taken_is_done_and_leaves_the_outbox(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (one,) = await drive.errands(stores)
    assert await drive.report(stores, one)
    (record,) = await stores.actions.get_many([one.action_id])
    assert (record.status, record.tries, record.answer) == (ActionStatus.DONE, 1, "200: ok")
    assert (record.due_at_us, record.finished_at_us > 0, record.courier) == (0, True, "")
    assert (await stores.missions.get("m1")).actions == {"QUEUED": 0, "DONE": 1, "FAILED": 0}
    assert await drive.kinds(stores) == ["action.queued", "action.claimed", "action.done"]
    assert await drive.errands(stores) == []


async def test_a_retry_comes_due_after_its_delay(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (one,) = await drive.errands(stores)
    assert await drive.report(stores, one, "retry", delay_s=60)
    assert await drive.errands(stores) == []
    (record,) = await stores.actions.get_many([one.action_id])
    assert record.due_at_us > await stores.missions.now_us() + 50_000_000
    await base.redis.zadd(stores.actions.keys.outbox, {one.action_id: 1})
    (again,) = await drive.errands(stores, "c2")
    assert (again.tries, again.token > one.token) == (1, True)
    (record,) = await stores.actions.get_many([one.action_id])
    assert record.lapses == 0, "nobody fell silent"


async def test_a_late_courier_is_refused_by_its_fence(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (late,) = await drive.errands(stores, lease_s=0)
    (now,) = await drive.errands(stores, "c2")
    assert not await drive.report(stores, late, "failed")
    assert await drive.report(stores, now, courier="c2")
    assert not await drive.report(stores, late, "failed")
    (record,) = await stores.actions.get_many([now.action_id])
    assert (record.status, record.tries) == (ActionStatus.DONE, 1)


async def test_a_courier_whose_lease_ran_out_unnoticed_may_still_report(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant)
    (one,) = await drive.errands(stores, lease_s=0)
    assert await drive.report(stores, one)


async def test_a_report_on_what_does_not_exist_is_refused(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant, [])
    (one,) = await drive.errands(await drive.accept_with(base, tenant, mission_id="m2"))
    await base.redis.delete(stores.actions.keys.of("action", one.action_id))
    assert not await drive.report(stores, one)
