"""Who was paused beyond its time finds its fence refused, drops its work, and goes on as one of many."""

from __future__ import annotations

import asyncio

import pytest

from chimera.core.mission import MissionStatus
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.chaos.world import World
from tests.store import drive

pytestmark = pytest.mark.chaos


async def test_a_worker_that_wakes_has_lost_its_tasks_and_takes_new_ones(world: World) -> None:
    sleeper = world.begin("worker", "sleeper")
    await world.up("planner-and-judge")
    await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())] * 12, task_timeout_s=60))
    await world.mission(lambda one: one.counts["PENDING"] == 12, "all are under way")
    sleeper.stop()
    other = await world.up("worker", "other")
    await world.mission(lambda one: one.tallies.get("crashes") == 12, "it is taken for dead")
    world.gate().touch()
    assert (await world.final()).counts["ACCEPTED"] == 12
    sleeper.wake()
    # Its heartbeat and its results are refused alike, and say whose the tasks were.
    lost = await sleeper.says("lease.lost")
    assert "is lost" in str(lost.fields["detail"])
    assert "CHIMERA_LEASE_S" in str(lost.fields["detail"])
    mission = await world.mission(lambda one: one.tallies.get("lapses") == 12, "it was only late")
    assert mission.tallies == {"lapses": 12}
    assert len(await world.events("task.lapsed")) == 12
    other.kill()
    await world.submit(drive.spec(inputs=list(range(20))), "m2")
    assert (await world.final("m2")).counts["ACCEPTED"] == 20
    assert {event.by for event in await world.events("task.claimed") if event.mission_id == "m2"} == {
        "sleeper"
    }
    await world.committed_once(32)


async def test_a_lone_worker_that_wakes_may_hold_a_task_twice_and_hands_in_once(world: World) -> None:
    """It claims what it lost before it is told that it lost it: the old attempt must not end the new one."""
    worker = world.begin("worker", "w")
    await world.up("planner-and-judge")
    await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())] * 6, task_timeout_s=60))
    await world.mission(lambda one: one.counts["PENDING"] == 6, "all are under way")
    worker.stop()
    await world.mission(lambda one: one.counts["READY"] == 6, "all are given back")
    worker.wake()
    await world.mission(lambda one: one.counts["PENDING"] == 6, "it has them again")
    await asyncio.sleep(2 * world.settings.lease_s)  # what it holds it must keep
    assert len(await world.held_by("w")) == 6
    world.gate().touch()
    mission = await world.final()
    assert mission.counts["ACCEPTED"] == 6
    assert mission.tallies == {"lapses": 6}
    await world.committed_once(6)


async def test_a_judge_that_wakes_commits_nothing_and_judges_on(world: World) -> None:
    score = '{"score": 0.95, "feedback": ""}'
    async with MeteredEndpoint([Turn(score, latency_s=4), Turn(score)]) as endpoint:
        world.settings = world.settings.model_copy(
            update={"judge_model": "m", "model_url": endpoint.url, "model_timeout_s": 60.0}
        )
        sleeper = world.begin("judge", "sleeper")
        world.begin("governor")
        world.begin("worker")
        await world.up("orchestrator")
        await sleeper.says("part.ready")
        mission = drive.spec(inputs=["x"], judge=[{"policy": "llm", "rubric": "is it good?"}])
        await world.submit(mission)
        async with asyncio.timeout(30):
            await endpoint.arrived.wait()
        sleeper.stop()
        other = await world.up("judge", "other")
        ended = await world.final()
        assert (ended.status, ended.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 1), endpoint.seen
        sleeper.wake()
        await sleeper.says("review.lost")
        other.kill()
        await world.submit(drive.spec(inputs=["y"]), "m2")
        assert (await world.final("m2")).counts["ACCEPTED"] == 1
    verdicts = await world.stores.tasks.get_many(["m1.0", "m2.0"])
    assert [[made.judge for made in task.verdicts] for task in verdicts] == [["other"], ["sleeper"]]
    await world.committed_once(2)
