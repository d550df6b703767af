"""Attempts that do not end and workers that must: each ends within its bound, by itself."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from chimera.core.mission import MissionStatus
from chimera.runtime.slots import STRAY_AFTER_S
from chimera.runtime.worker import ORPHANED_AFTER
from chimera.serving.local.redis_server import RedisServer
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.chaos.world import World, through, until
from tests.relay import Relay
from tests.store import drive

pytestmark = pytest.mark.chaos


async def test_a_model_that_never_answers_ends_the_attempt_at_its_time(world: World) -> None:
    async with MeteredEndpoint([Turn(never=True)]) as endpoint:
        world.settings = world.settings.model_copy(update={"model": "m", "model_url": endpoint.url})
        world.begin("hub")
        await world.up("worker")
        await world.submit(drive.spec(agent="asks", inputs=["x"], max_attempts=2, task_timeout_s=2))
        mission = await world.final()
        assert (mission.status, mission.tallies) == (MissionStatus.FAILED, {"timeouts": 2})
        task = await world.stores.tasks.get("m1.0")
        assert task.reason == "timeout"
        assert endpoint.calls >= 1

        # It was sent, so what it may have cost is charged; nothing is held any more.
        async def settled() -> bool:
            return (await world.stores.ledger.balance()).held == 0

        await until(settled, "every hold has ended")
        assert (await world.stores.ledger.balance()).settled["lifetime"] == task.spent_microusd > 0


async def test_attempts_that_ignore_their_end_lose_their_slots_and_keep_no_worker(world: World) -> None:
    gates = [str(world.gate())] * 2
    await world.up("planner-and-judge")
    for name, slots in (("narrow", 1), ("wide", 2)):
        await world.up("worker", name, slots=slots)
        deaf = drive.spec(agent="deaf", inputs=[str(world.gate("deaf"))], max_attempts=1, task_timeout_s=1)
        await world.submit(deaf, f"of-{name}")
        await world.mission(lambda one: one.counts["PENDING"] == 1, "it is under way", f"of-{name}")
    for name in ("narrow", "wide"):
        mission = await world.final(f"of-{name}")
        assert (mission.status, mission.tallies) == (MissionStatus.FAILED, {"timeouts": 1})
    await world.submit(drive.spec(agent="gated", inputs=gates, task_timeout_s=60))
    await world.mission(lambda one: one.counts["PENDING"] == 1, "one task finds a slot")
    began = time.monotonic()
    await world.mission(lambda one: one.counts["PENDING"] == 2, "the other gets the stray's")
    assert time.monotonic() - began > STRAY_AFTER_S / 2, "there was only one"
    wide, narrow = world.parts["wide"], world.parts["narrow"]
    assert len(await world.held_by("wide")) == 2
    assert [line.task_id for line in wide.said("agent.ignores_cancellation")] == ["of-wide.0"]
    # One with as many strays as slots can do no more; the other only goes when it is told to.
    await narrow.ended()
    assert narrow.said("worker.ended")[0].fields["reason"] == "strays"
    world.gate().touch()
    assert (await world.final()).counts["ACCEPTED"] == 2
    await world.stores.tasks.drain("wide")
    await wide.ended()
    assert wide.said("worker.ended")[0].fields["reason"] == "drained"


async def test_an_agent_that_holds_the_loop_beyond_its_time_ends_its_worker(world: World) -> None:
    worker = await world.up("worker")
    await world.up("planner-and-judge")
    mission = drive.spec(agent="neighbour", inputs=[{"block_s": 60}], max_attempts=1, task_timeout_s=1)
    await world.submit(mission)
    assert (await world.final()).tallies == {"timeouts": 1}
    await worker.ended()
    assert worker.said("worker.stuck")[0].task_id == "m1.0"


async def test_a_drained_worker_hands_back_what_does_not_end_in_time(world: World) -> None:
    worker = await world.up("worker", drain_s=1.0)
    await world.up("planner-and-judge")
    await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())] * 3, task_timeout_s=300))
    await world.mission(lambda one: one.counts["PENDING"] == 3, "all are under way")
    await world.stores.tasks.drain("worker")
    await worker.ended()
    mission = await world.stores.missions.get("m1")
    assert (mission.counts["READY"], mission.tallies) == (3, {})
    assert len(await world.events("task.returned")) == 3
    ended = await world.events("worker.ended")
    assert [event.details["reason"] for event in ended] == ["drained"]


async def test_a_worker_that_is_told_to_end_hands_back_what_it_holds_and_no_lease_runs_out(
    world: World,
) -> None:
    worker = await world.up("worker", preempt_s=0.5)
    await world.up("planner-and-judge")
    gated = drive.spec(agent="gated", inputs=[str(world.gate())] * 3, task_timeout_s=300, priority="high")
    await world.submit(gated)
    await world.mission(lambda one: one.counts["PENDING"] == 3, "all are under way")
    worker.process.send(signal.SIGTERM)
    await worker.ended()
    mission = await world.stores.missions.get("m1")
    assert (mission.counts["READY"], mission.tallies) == (3, {}), "uncounted"
    assert await world.base.redis.zcard(world.stores.tasks.keys.leases) == 0
    assert await world.events("task.rescued") == []
    assert [event.details["reason"] for event in await world.events("worker.ended")] == ["drained"]
    # What ends in time is finished, not handed back.
    other = await world.up("worker", "other", preempt_s=30)
    await world.mission(lambda one: one.counts["PENDING"] == 3, "all are under way again")
    other.process.send(signal.SIGTERM)
    world.gate().touch()
    await other.ended()
    assert (await world.final()).counts["ACCEPTED"] == 3
    assert len(await world.events("task.returned")) == 3, "the first worker's"


async def test_workers_of_a_node_that_goes_hand_their_work_to_others(world: World) -> None:
    await world.up("planner-and-judge")
    async with world.controlled(max_workers=1, preempt_s=0.5) as workers:
        await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())] * 3, task_timeout_s=300))
        await world.mission(lambda one: one.counts["PENDING"] == 3, "all are under way")
        (first,) = workers.started
        workers.evacuated.add(first.name)
        await first.ended()
        await world.mission(lambda one: one.counts["PENDING"] == 3, "another has them")
        world.gate().touch()
        mission = await world.final()
    assert mission.tallies == {}
    assert await world.events("task.rescued") == []
    assert len(await world.events("task.returned")) == 3


async def test_a_worker_whose_store_stays_away_ends_itself(world: World, redis: RedisServer) -> None:
    idle_s = 0.3
    worker = await world.up("worker", idle_s=idle_s)
    hub = await world.up("planner-and-judge")
    await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())], task_timeout_s=300))
    await world.mission(lambda one: one.counts["PENDING"] == 1, "it has work in hand")
    hub.kill()
    redis.kill()
    began = time.monotonic()
    await worker.ended()
    assert time.monotonic() - began > ORPHANED_AFTER * idle_s / 2
    assert worker.said("worker.ended")[0].fields["reason"] == "store_away"


async def test_a_worker_without_work_and_without_a_controller_ends_itself(world: World) -> None:
    worker = await world.up("worker", idle_s=0.2)
    await worker.ended()
    assert worker.said("worker.ended")[0].fields["reason"] == "idle"
    assert [event.details["reason"] for event in await world.events("worker.ended")] == ["idle"]


async def test_a_result_on_its_way_when_its_worker_is_seen_dead_is_not_committed_twice(
    world: World, redis: RedisServer
) -> None:
    # So long between heartbeats that only the result is on its way.
    world.settings = world.settings.model_copy(update={"lease_s": 12.0, "heartbeat_s": 4.0})
    async with Relay(redis.port) as relay:
        dies = await world.up("worker", "dies", redis_url=through(world.settings.redis_url, relay.port))
        await world.up("planner-and-judge")
        await world.submit(drive.spec(agent="gated", inputs=[str(world.gate())], task_timeout_s=60))
        await world.mission(lambda one: one.counts["PENDING"] == 1, "it is under way")
        before = await heartbeat(world, "dies")

        async def beaten() -> bool:
            return await heartbeat(world, "dies") != before

        await until(beaten, "it has just beaten")
        relay.open.clear()
        world.gate().touch()
        await asyncio.sleep(0.5)  # time enough to hand in: nothing tells of what is on its way
        dies.kill()
        assert await world.stores.tasks.release("dies", "hub") == 1
        await world.up("worker", "lives")
        assert (await world.final()).counts["ACCEPTED"] == 1
        relay.open.set()
        # That it arrived shows here, and nowhere else.
        mission = await world.mission(lambda one: one.tallies == {"lapses": 1}, "it arrived")
    assert mission.counts["ACCEPTED"] == 1
    (late,) = await world.events("task.lapsed")
    assert late.by == "dies"
    assert (await world.stores.tasks.get("m1.0")).result == 2, "the second attempt's"
    await world.committed_once(1)


async def heartbeat(world: World, worker: str) -> str:
    """When it last beat."""
    return (await world.stores.tasks.workers()).get(worker, {}).get("beat", "")
