"""retry_actions.lua: a person gives failed actions a fresh set of tries."""

from __future__ import annotations

import pytest

from chimera.core.action import ActionStatus
from chimera.errors import NotFound
from chimera.runtime.base import Base, TenantStores
from tests.store import drive


async def failed(base: Base, tenant: str) -> TenantStores:
    stores = await drive.accept_with(base, tenant, [drive.HOOK, drive.HOOK])
    first, second = await drive.errands(stores)
    assert await drive.report(stores, first, "failed")
    assert await drive.report(stores, second)
    return stores


async def test_a_failed_action_is_tried_again_and_a_done_one_is_not(base: Base, tenant: str) -> None:
    stores = await failed(base, tenant)
    assert await stores.actions.retry("m1", ["m1.0/0", "m1.0/1", "m1.0/9"], "op", by="eve") == 1
    assert (await stores.missions.get("m1")).actions == {"QUEUED": 1, "DONE": 1, "FAILED": 0}
    (again,) = await drive.errands(stores)
    assert (again.action_id, again.tries) == ("m1.0/0", 0)
    assert await drive.report(stores, again)
    (record,) = await stores.actions.get_many(["m1.0/0"])
    assert (record.status, record.tries) == (ActionStatus.DONE, 1)


async def test_the_same_operation_never_fires_a_second_time(base: Base, tenant: str) -> None:
    stores = await failed(base, tenant)
    assert await stores.actions.retry("m1", ["m1.0/0"], "op", by="eve") == 1
    (again,) = await drive.errands(stores)
    assert await drive.report(stores, again, "failed")
    assert await stores.actions.retry("m1", ["m1.0/0"], "op", by="eve") == 1
    assert await drive.errands(stores) == []
    assert await stores.actions.retry("m1", ["m1.0/0"], "another", by="eve") == 1
    (again,) = await drive.errands(stores)
    assert await drive.report(stores, again, "failed")
    assert await stores.actions.retry("m1", ["m1.0/0"], "op", by="eve") == 1, "nor when another came between"
    assert await drive.errands(stores) == []


async def test_another_missions_action_is_left_alone(base: Base, tenant: str) -> None:
    stores = await failed(base, tenant)
    await drive.begin(base, tenant, drive.spec(), "m2")
    assert await stores.actions.retry("m2", ["m1.0/0"], "op", by="eve") == 0
    with pytest.raises(NotFound):
        await stores.actions.retry("m9", ["m1.0/0"], "op", by="eve")
