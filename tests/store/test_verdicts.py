"""Reviews and verdicts: the only way to ACCEPTED."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chimera.core.mission import MissionStatus
from chimera.core.plan import next_window
from chimera.errors import Conflict, NotFound, StaleVerdict
from chimera.runtime.base import Base, TenantStores
from chimera.store import keys
from chimera.store.scripts import Refusal
from tests.redis_fixtures import logged_in
from tests.store import drive


async def in_review(base: Base, tenant: str, **fields: object) -> TenantStores:
    """A mission of one task, its result handed in."""
    stores = await drive.begin(base, tenant, drive.spec(**{"inputs": ["x"], **fields}))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one, {"text": "good"})
    return stores


async def test_a_rejected_task_is_tried_again_with_the_feedback(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (one,) = await drive.review(stores)
    await drive.judge(stores, one, drive.verdict("reject", 0.2, "shorter"))
    (again,) = await drive.claim(stores)
    assert again.feedback == ("shorter",)
    assert again.attempt == 2


async def test_the_last_rejection_fails_the_task_and_keeps_every_verdict(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant, max_attempts=2)
    for number in range(2):
        (one,) = await drive.review(stores)
        await drive.judge(stores, one, drive.verdict("reject", 0.1, f"no {number}"))
        for claim in await drive.claim(stores):
            await drive.hand_in(stores, claim)
    task = await stores.tasks.get("m1.0")
    assert (task.status, task.reason) == ("FAILED", "rejected")
    assert task.finished_at_us > 0
    assert [verdict.feedback for verdict in task.verdicts] == ["no 0", "no 1"]


async def test_a_verdict_sent_twice_is_one_commit(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (one,) = await drive.review(stores)
    assert await drive.judge(stores, one) is None
    assert await drive.judge(stores, one) is None
    task = await stores.tasks.get("m1.0")
    assert len(task.verdicts) == 1
    assert (await stores.missions.get("m1")).counts["ACCEPTED"] == 1


async def test_a_judge_whose_lease_ran_out_cannot_commit(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (late,) = await drive.review(stores, judge="late")
    await base.redis.zadd(stores.tasks.keys.judging, {late.task_id: 1})
    (now,) = await drive.review(stores, judge="now")
    assert await drive.judge(stores, late) is Refusal.LOST
    assert await stores.reviews.renew([(late.task_id, late.token)], lease_s=5) == [False]
    assert await drive.judge(stores, now) is None


async def test_a_verdict_on_an_older_state_is_refused(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (one,) = await drive.review(stores)
    await stores.missions.edit("m1", "op", by="test", context={"new": True})
    assert await drive.judge(stores, one) is Refusal.STALE
    assert (await stores.tasks.get("m1.0")).status == "READY"


async def test_siblings_accepted_make_no_result_stale(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(1000))))
    await drive.finish(stores, 500)
    await drive.finish(stores, 500)
    while (await stores.missions.get("m1")).counts["ACCEPTED"] < 1000:
        for one in await drive.review(stores, 500):
            assert await drive.judge(stores, one) is None
    mission = await stores.missions.get("m1")
    assert mission.tallies == {}
    assert mission.state.version == 1


async def test_a_judge_that_breaks_is_tried_again_and_then_asks_a_human(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    for _ in range(3):
        (one,) = await drive.review(stores)
        await stores.reviews.give_back("j1", [(one, "model down", True)], max_failures=3)
        await base.redis.zadd(stores.tasks.keys.judging, {one.task_id: 1}, xx=True)
    task = await stores.tasks.get("m1.0")
    assert (task.status, task.reason) == ("ESCALATED", "judge_failed")
    assert "rejections" not in task.tallies


async def test_waiting_for_money_to_judge_never_asks_a_human(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    for _ in range(5):
        (one,) = await drive.review(stores)
        await stores.reviews.give_back("j1", [(one, "no budget", False)], max_failures=3)
        await base.redis.zadd(stores.tasks.keys.judging, {one.task_id: 1}, xx=True)
    assert (await stores.tasks.get("m1.0")).status == "REVIEW"


async def escalated(base: Base, tenant: str, **fields: object) -> TenantStores:
    stores = await in_review(base, tenant, **fields)
    (one,) = await drive.review(stores)
    await drive.judge(stores, one, drive.verdict("escalate", 0.8, "unsure"))
    return stores


async def test_a_human_approves_once(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant)
    assert await stores.missions.settle("m1", term=drive.TERM, by="t") is MissionStatus.WAITING_REVIEW
    assert await stores.reviews.inbox() == ["m1.0"]
    for _ in range(2):
        await stores.reviews.answer("m1.0", "op", verdict=drive.verdict(), by="key:me", max_stale=5)
    assert await stores.missions.settle("m1", term=drive.TERM, by="t") is MissionStatus.COMPLETED
    assert await stores.reviews.inbox() == []
    with pytest.raises(Conflict, match="ACCEPTED"):
        await stores.reviews.answer("m1.0", "other", verdict=drive.verdict(), by="key:me", max_stale=5)


async def test_a_human_rejects_with_feedback(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant)
    await stores.reviews.answer(
        "m1.0", "op", verdict=drive.verdict("reject", 0, "name the source"), by="key:me", max_stale=5
    )
    (again,) = await drive.claim(stores)
    assert again.feedback == ("name the source",)


async def test_approving_an_older_state_does_the_task_again(base: Base, tenant: str) -> None:
    stores = await escalated(base, tenant)
    await stores.missions.edit("m1", "op", by="test", goal="another")
    with pytest.raises(StaleVerdict):
        await stores.reviews.answer("m1.0", "op", verdict=drive.verdict(), by="key:me", max_stale=5)
    assert (await stores.tasks.get("m1.0")).status == "READY"


async def test_answering_what_does_not_exist_is_not_found(base: Base, tenant: str) -> None:
    with pytest.raises(NotFound):
        await base.of(tenant).reviews.answer("m9.0", "op", verdict=drive.verdict(), by="me", max_stale=5)


async def test_two_judges_never_hold_the_same_review(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(30))))
    for one in await drive.claim(stores, 30):
        await drive.hand_in(stores, one)
    taken = await asyncio.gather(*(drive.review(stores, 10, judge=f"j{n}") for n in range(4)))
    ids = [one.task_id for batch in taken for one in batch]
    assert len(ids) == len(set(ids)) == 30


async def test_a_commit_record_has_the_state_it_was_made_under_and_keeps_it(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant, inputs=["x", "y"])  # the second keeps the mission open
    (one,) = await drive.review(stores)
    assert (await stores.tasks.get(one.task_id)).state_version == 1
    await drive.judge(stores, one)
    await stores.missions.edit("m1", "op", by="me", goal="another")
    assert await base.redis.hget(stores.tasks.keys.of("commit", one.task_id), "version") == "1"
    assert (await stores.tasks.get(one.task_id)).state_version == 1


async def verdicts(stores: TenantStores, decision: str = "accept") -> None:
    """Of all that is in review, one call each."""
    for one in await drive.review(stores):
        assert (
            await drive.judge(stores, one, drive.verdict(decision, 1.0 if decision == "accept" else 0.1))
            is None
        )


@pytest.mark.parametrize(
    ("decision", "fields", "ends"),
    [
        ("accept", {}, (MissionStatus.COMPLETED, "")),
        ("reject", {"max_attempts": 1}, (MissionStatus.FAILED, "min_accepted")),
        ("reject", {"max_attempts": 1, "on_task_failure": "stop"}, (MissionStatus.FAILED, "task_failed")),
        ("accept", {"min_accepted": 2}, (MissionStatus.FAILED, "min_accepted")),
    ],
)
async def test_the_verdict_that_leaves_nothing_open_ends_the_mission(
    base: Base, tenant: str, decision: str, fields: dict[str, Any], ends: tuple[MissionStatus, str]
) -> None:
    """No leader looks, and none is told to."""
    stores = await in_review(base, tenant, **fields)
    async with base.blocking.pubsub() as channel:
        await channel.subscribe(keys.channel(keys.MISSIONS, tenant))
        await verdicts(stores, decision)
        await base.redis.publish(keys.channel(keys.MISSIONS, tenant), "that was all")
        heard = [said["type"] async for said in until(channel, "that was all")]
    assert "message" not in heard
    mission = await stores.missions.get("m1")
    assert (mission.status, mission.reason) == ends
    assert mission.finished_at_us > 0
    assert await stores.missions.active() == []
    *_, last = [event async for _, event in stores.recorder.read()]
    assert (last.kind, last.by) == (f"mission.{ends[0].lower()}", "j1")
    assert last.details == {
        "reason": ends[1],
        "accepted": int(decision == "accept"),
        "failed": int(decision == "reject"),
    }
    assert await stores.missions.settle("m1", term=drive.TERM, by="hub") is ends[0]
    assert [event async for _, event in stores.recorder.read()][-1] == last, "the leader has nothing to add"


async def until(channel: Any, last: str) -> AsyncIterator[Any]:
    """Messages before the one that says so."""
    async with asyncio.timeout(5):
        async for message in channel.listen():
            if message["data"] == last:
                return
            yield message


async def test_a_mission_ends_with_its_last_verdict_and_not_before(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    first, second = await drive.claim(stores, 2)
    await drive.hand_in(stores, first)
    await verdicts(stores)
    assert (await stores.missions.get("m1")).status is MissionStatus.RUNNING
    await drive.hand_in(stores, second)
    await verdicts(stores)
    assert (await stores.missions.get("m1")).status is MissionStatus.COMPLETED


async def test_a_mission_that_is_not_planned_to_its_end_goes_on_after_its_last_verdict(
    base: Base, tenant: str
) -> None:
    mission = drive.spec(inputs=[1, 2])
    await drive.submit(base, tenant, mission)
    stores = base.of(tenant)
    window = next_window(mission, mission.inputs[:1], cursor=0, inputs=2, width=20)
    assert await stores.missions.plan("m1", window, cursor=0, term=drive.TERM, by="test")
    await drive.finish(stores, 1)
    assert (await stores.missions.get("m1")).status is MissionStatus.RUNNING
    assert "m1" in await stores.missions.dirty(), "the hub is to plan on"


async def test_a_mission_that_is_paused_before_its_last_verdict_stays_so(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (one,) = await drive.review(stores)
    await stores.missions.pause("m1", "op", by="me")
    assert await drive.judge(stores, one) is None
    assert (await stores.missions.get("m1")).status is MissionStatus.PAUSED
    await stores.missions.resume("m1", "op", by="me")
    await drive.end(stores)
    assert (await stores.missions.get("m1")).status is MissionStatus.COMPLETED


async def test_a_mission_whose_last_verdict_asks_a_human_waits(base: Base, tenant: str) -> None:
    stores = await in_review(base, tenant)
    (one,) = await drive.review(stores)
    await drive.judge(stores, one, drive.verdict("escalate", 0.8))
    assert "m1" in await stores.missions.dirty()
    await drive.end(stores)
    assert (await stores.missions.get("m1")).status is MissionStatus.WAITING_REVIEW


@pytest.mark.parametrize(
    ("field", "value"), [("result", '"another"'), ("actions", json.dumps([drive.HOOK.model_dump_json()]))]
)
async def test_what_a_worker_puts_in_place_of_a_judged_result_is_not_accepted(
    base: Base, tenant: str, field: str, value: str
) -> None:
    """It may write a task's run state; what counts is what the judge saw."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await stores.reviews.claim("j1", "r1", lease_s=0, most=1)
    async with logged_in(base.settings, "worker", tenant) as worker:
        await worker.redis.hset(stores.tasks.keys.of("task", one.task_id), field, value)
    assert await drive.judge(stores, held) is Refusal.LOST
    assert (await stores.tasks.get(one.task_id)).status == "REVIEW"
    assert not await base.redis.exists(stores.tasks.keys.of("commit", one.task_id))
    (anew,) = await stores.reviews.claim("j2", "r2", lease_s=5, most=1)
    assert value in (anew.result_json, anew.actions_json), "it is judged like any other"
