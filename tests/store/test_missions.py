"""Missions: submitted once, planned in windows, ended for a reason, swept."""

from __future__ import annotations

import pytest

from chimera.core.mission import MissionStatus
from chimera.core.plan import next_window
from chimera.errors import AlreadyExists, Conflict, CorruptRecord, InvalidTransition, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.store.scripts import OldTerm
from tests.store import drive


async def settle(stores: TenantStores) -> MissionStatus | None:
    return await stores.missions.settle("m1", term=drive.TERM, by="test")


async def test_an_idempotency_key_makes_one_mission(base: Base, tenant: str) -> None:
    first = await drive.submit(base, tenant, drive.spec(), "m1", idempotency_key="once")
    assert await drive.submit(base, tenant, drive.spec(), "m2", idempotency_key="once") == first
    assert await base.of(tenant).missions.list_ids() == ["m1"]
    with pytest.raises(AlreadyExists, match="m1"):
        await drive.submit(base, tenant, drive.spec(goal="other"), "m3", idempotency_key="once")


async def test_planning_a_window_twice_makes_its_tasks_once(base: Base, tenant: str) -> None:
    mission = drive.spec(inputs=list(range(5)))
    await drive.submit(base, tenant, mission)
    stores = base.of(tenant)
    window = next_window(mission, mission.inputs[:3], cursor=0, inputs=5, width=20)
    assert await stores.missions.plan("m1", window, cursor=0, term=drive.TERM, by="a")
    assert await stores.missions.plan("m1", window, cursor=0, term=drive.TERM, by="b"), "as the first"
    assert (await stores.missions.get("m1")).counts["READY"] == 3
    later = next_window(mission, mission.inputs[3:], cursor=3, inputs=5, width=20)
    assert await stores.missions.plan("m1", later, cursor=3, term=drive.TERM, by="a")
    assert not await stores.missions.plan("m1", window, cursor=0, term=drive.TERM, by="b"), "long past"
    assert (await stores.missions.get("m1")).counts["READY"] == 5


async def test_an_older_leader_is_refused(base: Base, tenant: str) -> None:
    mission = drive.spec()
    await drive.submit(base, tenant, mission)
    stores = base.of(tenant)
    assert await stores.missions.settle("m1", term=drive.TERM + 1, by="new") is MissionStatus.PLANNING
    window = next_window(mission, mission.inputs, cursor=0, inputs=3, width=20)
    with pytest.raises(OldTerm):
        await stores.missions.plan("m1", window, cursor=0, term=drive.TERM, by="old")
    with pytest.raises(OldTerm):
        await settle(stores)


async def test_too_little_accepted_fails_the_mission(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"], max_attempts=1))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0))
    assert await settle(stores) is MissionStatus.FAILED
    assert (await stores.missions.get("m1")).reason == "min_accepted"


async def test_stop_on_failure_ends_the_mission_at_the_first(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(max_attempts=1, on_task_failure="stop"))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0))
    assert await settle(stores) is MissionStatus.FAILED
    assert await stores.missions.sweep("m1", term=drive.TERM, by="test") == 0
    mission = await stores.missions.get("m1")
    assert (mission.reason, mission.counts["CANCELLED"]) == ("task_failed", 2)


async def test_a_deadline_ends_running_attempts_and_keeps_what_is_accepted(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(deadline_s=3600))
    await drive.finish(stores, 1)
    (running,) = await drive.claim(stores)
    await base.redis.hset(stores.missions.keys.of("mission", "m1"), "deadline", "1")
    assert await settle(stores) is MissionStatus.FAILED
    await stores.missions.sweep("m1", term=drive.TERM, by="test")
    mission = await stores.missions.get("m1")
    assert (mission.reason, mission.counts["ACCEPTED"], mission.counts["CANCELLED"]) == ("deadline", 1, 2)
    answer = await drive.hand_in(stores, running)
    assert "CANCELLED" in str(answer)


async def test_cancelling_is_idempotent_and_sweeps_in_batches(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(10))))
    await drive.claim(stores, 2)
    for _ in range(2):
        await stores.missions.cancel("m1", by="me", reason="enough")
    assert await drive.claim(stores) == [], "nothing starts once it is cancelled"
    assert await stores.missions.sweep("m1", term=drive.TERM, by="test", most=4) == 6
    assert (await stores.missions.chores()).sweep == ["m1"]
    while await stores.missions.sweep("m1", term=drive.TERM, by="test", most=4):
        pass
    assert (await stores.missions.chores()).sweep == []
    assert (await stores.missions.get("m1")).counts["CANCELLED"] == 10
    assert await base.redis.zcard(stores.tasks.keys.leases) == 0


async def test_what_is_over_cannot_be_cancelled_or_changed(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    await drive.finish(stores, 1)
    await settle(stores)
    with pytest.raises(InvalidTransition):
        await stores.missions.cancel("m1", by="me", reason="")
    with pytest.raises(Conflict):
        await stores.missions.edit("m1", "op", by="me", goal="late")
    with pytest.raises(NotFound):
        await stores.missions.cancel("m404", by="me", reason="")


DAG = {
    "strategy": "dag",
    "nodes": [
        {"name": "a"},
        {"name": "b", "depends_on": ["a"]},
        {"name": "c", "depends_on": ["a"], "accept_partial": True},
        {"name": "d", "depends_on": ["b", "c"], "accept_partial": True},
    ],
}


async def test_a_dag_runs_in_its_order(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(plan=DAG, inputs=[]))
    order = []
    for _ in range(4):
        claims = await drive.claim(stores, 4)
        order.append({one.task_id for one in claims})
        for one in claims:
            await drive.hand_in(stores, one, one.task_id)
        for held in await drive.review(stores):
            await drive.judge(stores, held)
    assert order == [{"m1.a"}, {"m1.b", "m1.c"}, {"m1.d"}, set()]
    assert await settle(stores) is MissionStatus.COMPLETED


async def test_a_failed_task_cancels_those_that_cannot_do_without_it(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(plan=DAG, inputs=[], max_attempts=1))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0))
    while await stores.missions.pass_failures(term=drive.TERM, by="test"):
        pass
    # c accepts partial inputs, but of its only input nothing is left.
    statuses = {name: (await stores.tasks.get(f"m1.{name}")).status for name in "abcd"}
    assert statuses == {"a": "FAILED", "b": "CANCELLED", "c": "CANCELLED", "d": "CANCELLED"}


async def test_a_reduce_takes_what_was_accepted(base: Base, tenant: str) -> None:
    mission = drive.spec(inputs=[1, 2, 3], plan={"strategy": "map_reduce", "width": 2}, max_attempts=1)
    stores = await drive.begin(base, tenant, mission)
    claims = await drive.claim(stores, 10)
    assert {one.task_id for one in claims} == {"m1.0", "m1.1", "m1.2"}
    for one in claims:
        await drive.hand_in(stores, one, one.input)
    for held in await drive.review(stores):
        bad = held.task_id == "m1.1"
        await drive.judge(stores, held, drive.verdict("reject", 0) if bad else None)
    while await stores.missions.pass_failures(term=drive.TERM, by="test"):
        pass
    reduces = await drive.claim(stores, 10)
    assert {one.task_id for one in reduces} == {"m1.r1-0", "m1.r1-1"}
    inputs = await stores.tasks.results([f"m1.{name}" for name in ("0", "1")])
    assert inputs == {"m1.0": 1}


async def test_tasks_behind_an_escalated_one_wait_for_the_human_too(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(plan=DAG, inputs=[]))
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await stores.missions.dirty()
    await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    assert await stores.missions.dirty() == ["m1"], "the hub is told to look"
    assert await settle(stores) is MissionStatus.WAITING_REVIEW
    await stores.reviews.answer("m1.a", "op", verdict=drive.verdict(), by="eve", max_stale=5)
    assert await settle(stores) is MissionStatus.RUNNING


async def test_a_verdict_wakes_the_planner_once_there_is_room_for_a_good_many(
    base: Base, tenant: str
) -> None:
    mission = drive.spec(inputs=list(range(8)))
    await drive.submit(base, tenant, mission)
    window = next_window(mission, mission.inputs[:4], cursor=0, inputs=8, width=20)
    stores = base.of(tenant)
    assert await stores.missions.plan("m1", window, cursor=0, term=drive.TERM, by="test", refill=2)
    await stores.missions.dirty()
    looked = []
    for one in await drive.claim(stores, 4):
        await drive.hand_in(stores, one)
        (held,) = await drive.review(stores)
        await drive.judge(stores, held)
        looked.append(await stores.missions.dirty())
    assert looked == [[], ["m1"], ["m1"], ["m1"]]


async def test_a_failure_still_to_be_passed_on_is_no_wait_for_a_human(base: Base, tenant: str) -> None:
    nodes = [{"name": "a"}, {"name": "b"}, {"name": "c", "depends_on": ["a"]}]
    mission = drive.spec(plan={"strategy": "dag", "nodes": nodes}, inputs=[], max_attempts=1)
    stores = await drive.begin(base, tenant, mission)
    for one in await drive.claim(stores, 2):
        await drive.hand_in(stores, one)
    for held in await drive.review(stores):
        await drive.judge(
            stores, held, drive.verdict("reject" if held.task_id == "m1.a" else "escalate", 0.1)
        )
    assert await settle(stores) is MissionStatus.RUNNING
    await stores.missions.pass_failures(term=drive.TERM, by="test")
    assert await settle(stores) is MissionStatus.WAITING_REVIEW


async def test_the_document_of_a_mission_is_its_spec_and_its_state_now(base: Base, tenant: str) -> None:
    mission = drive.spec(context={"n": [1]}, task_timeout_s=7)
    stores = await drive.begin(base, tenant, mission)
    await stores.missions.edit("m1", "op", by="me", goal="another")
    before = (await base.redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    spec, state = await stores.missions.document("m1")
    assert (await base.redis.info("commandstats"))["cmdstat_hgetall"]["calls"] == before, (
        "nothing else is read"
    )
    found = await stores.missions.get("m1")
    assert (spec, state) == (found.spec, found.state)
    assert (spec.goal, spec.task_timeout_s) == ("try", 7)
    assert (state.version, state.goal, state.context) == (2, "another", {"n": [1]})
    with pytest.raises(NotFound, match="m9"):
        await stores.missions.document("m9")
    await base.redis.hset(stores.missions.keys.of("mission", "m1"), "context", "{no")
    with pytest.raises(CorruptRecord):
        await stores.missions.document("m1")
