"""Into the outbox: actions share the fate of their result, and nothing else brings one in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chimera.core.action import ActionStatus, HttpAction
from chimera.errors import StaleVerdict
from chimera.runtime.base import Base, TenantStores
from chimera.store.scripts import Refusal
from tests.store import drive

TWO = (drive.HOOK, HttpAction(method="DELETE", url="https://receiver.test/x", headers={"X-A": "b"}))


async def in_review(base: Base, tenant: str, **fields: Any) -> TenantStores:
    stores = await drive.begin(base, tenant, drive.spec(**{"inputs": ["x"], **fields}))
    (one,) = await drive.claim(stores)
    assert await drive.hand_in(stores, one, actions=TWO) is None
    return stores


async def nothing_is_queued(base: Base, stores: TenantStores) -> bool:
    assert await drive.errands(stores) == []
    assert await drive.kinds(stores) == []
    assert (await stores.missions.get("m1")).actions == dict.fromkeys(ActionStatus, 0)
    left = [key async for key in base.redis.scan_iter(match=f"{stores.actions.keys.root}j:*")]
    return not [key for key in left if ":a:" in key or "outbox" in key]


async def test_before_the_verdict_an_action_waits_with_its_result(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    assert (await stores.tasks.get("m1.0")).proposed == TWO
    assert await nothing_is_queued(base, stores)
    (held,) = await drive.review(stores)
    assert held.actions == TWO


async def test_acceptance_queues_each_action_in_the_same_step(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (held,) = await drive.review(stores)
    assert await drive.judge(stores, held) is None
    first, second = await stores.actions.get_many(await stores.actions.ids("m1"))
    assert (first.action_id, first.task_id, first.index) == ("m1.0/0", "m1.0", 0)
    assert (first.action, second.action) == TWO
    assert (first.status, first.tries, first.due_at_us > 0) == (ActionStatus.QUEUED, 0, True)
    assert (await stores.missions.get("m1")).actions["QUEUED"] == 2
    task = await stores.tasks.get("m1.0")
    assert (task.proposed, task.actions) == ((), 2)
    kinds = await drive.kinds(stores, "")
    assert kinds[-4:] == ["task.accepted", "action.queued", "action.queued", "mission.completed"]


async def test_what_an_action_says_is_kept_to_the_letter(base: Base, tenant: str) -> None:
    # Lua would make {} of [], and 1e+20 of a large number.
    body = {"empty": [], "none": {}, "big": 12345678901234567890, "small": 0.1, "text": "ü\u0000\n"}
    action = HttpAction(url="http://receiver.test/", body=body)
    stores = await drive.accept_with(base, tenant, [action])
    (taken,) = await drive.errands(stores)
    assert taken.action_json == action.model_dump_json()
    assert json.loads(taken.action_json)["body"] == body


async def test_a_rejected_result_takes_its_actions_along(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0.1, "no"))
    assert (await stores.tasks.get("m1.0")).proposed == ()
    (again,) = await drive.claim(stores)
    await drive.hand_in(stores, again)
    (held,) = await drive.review(stores)
    assert held.actions == ()
    await drive.judge(stores, held)
    assert await nothing_is_queued(base, stores)


async def test_a_stale_result_takes_its_actions_along(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (held,) = await drive.review(stores)
    await stores.missions.edit("m1", "op", by="t", goal="other")
    assert await drive.judge(stores, held) is Refusal.STALE
    assert (await stores.tasks.get("m1.0")).proposed == ()
    assert await nothing_is_queued(base, stores)


async def test_a_result_that_is_stale_when_handed_in_queues_nothing(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores)
    await stores.missions.edit("m1", "op", by="t", goal="other")
    assert await drive.hand_in(stores, one, actions=TWO) is Refusal.STALE
    assert (await stores.tasks.get("m1.0")).proposed == ()
    assert await nothing_is_queued(base, stores)


async def test_a_cancelled_mission_drops_what_waits_for_its_verdict(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (held,) = await drive.review(stores)
    await stores.missions.cancel("m1", by="t", reason="enough")
    await stores.missions.sweep("m1", term=drive.TERM, by="hub")
    assert await drive.judge(stores, held) is Refusal.LOST
    assert (await stores.tasks.get("m1.0")).proposed == ()
    assert await nothing_is_queued(base, stores)


async def escalated(base: Base, tenant: str) -> TenantStores:
    stores = await in_review(base, tenant)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    assert (await stores.tasks.get("m1.0")).proposed == TWO
    assert await nothing_is_queued(base, stores)
    return stores


async def test_a_humans_approval_queues_them(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant)
    await stores.reviews.answer("m1.0", "op", verdict=drive.verdict(), by="eve", max_stale=5)
    assert [one.action_id for one in await drive.errands(stores)] == ["m1.0/0", "m1.0/1"]
    assert (await drive.kinds(stores, ""))[-5:-2] == ["task.approved", "action.queued", "action.queued"]


async def test_a_humans_rejection_drops_them(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant)
    await stores.reviews.answer("m1.0", "op", verdict=drive.verdict("reject", 0), by="eve", max_stale=5)
    assert (await stores.tasks.get("m1.0")).proposed == ()
    assert await nothing_is_queued(base, stores)


async def test_an_approval_of_an_older_state_queues_nothing(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant)
    await stores.missions.edit("m1", "op", by="t", goal="other")
    with pytest.raises(StaleVerdict):
        await stores.reviews.answer("m1.0", "op", verdict=drive.verdict(), by="eve", max_stale=5)
    assert (await stores.tasks.get("m1.0")).proposed == ()
    assert await nothing_is_queued(base, stores)


@pytest.mark.parametrize("written", ["no JSON", "7", json.dumps(["{}"] * 101)])
async def test_what_a_worker_wrote_cannot_break_the_commit(base: Base, tenant: str, written: str) -> None:
    stores = await in_review(base, tenant)
    await base.redis.hset(stores.tasks.keys.of("task", "m1.0"), "actions", written)
    (held,) = await drive.review(stores)
    with pytest.raises(ValueError, match=r"actions|JSON|value"):
        _ = held.actions  # so no judge accepts it; a human may
    assert await drive.judge(stores, held) is None
    assert (await stores.missions.get("m1")).counts["ACCEPTED"] == 1
    assert await drive.kinds(stores) == ["action.failed"]
    assert await drive.errands(stores) == []
