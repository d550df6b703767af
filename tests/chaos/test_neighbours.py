"""Tasks that harm their worker: the neighbours finish all the same, and the culprit is found."""

from __future__ import annotations

import pytest

from chimera.core.mission import MissionStatus
from chimera.store.tasks import POISON_AFTER
from tests.chaos.world import World, until
from tests.store import drive

pytestmark = pytest.mark.chaos


async def test_a_sleeper_a_hoarder_and_one_that_ends_the_process_cost_their_neighbours_nothing(
    world: World,
) -> None:
    # The default lease: a busy machine must not be taken for a sleeper.
    world.settings = world.settings.model_copy(update={"lease_s": 3.0, "heartbeat_s": 0.75})
    culprits = [{"block_s": 2.5 * world.settings.lease_s}, {"hoard": True}, {"exit": True}]
    await world.up("planner-and-judge")
    inputs = [*culprits, *range(61)]
    mission = drive.spec(agent="neighbour", inputs=inputs, max_attempts=1, task_timeout_s=60)
    await world.submit(mission)
    async with world.controlled(max_workers=1, slots=64, worker_memory_mb=400) as workers:
        ended = await world.final(timeout_s=60)
    sleeper, hoarder, killer, *others = await world.stores.tasks.get_many(
        await world.stores.missions.task_ids("m1")
    )
    assert {task.status for task in others} == {"ACCEPTED"}
    assert sleeper.status == "ACCEPTED"
    assert (hoarder.status, hoarder.reason) == ("FAILED", "agent_error")
    for part in ("MemoryError", "400 MiB", "CHIMERA_WORKER_MEMORY_MB"):
        assert part in hoarder.last_error
    assert (killer.status, killer.reason) == ("FAILED", "poisoned")
    assert "lapses" not in ended.tallies
    rescued = await world.events("task.rescued")
    assert {event.by for event in rescued} == {"test"}, "no lease ran out: the sleeper cost nobody's"
    # 64 tasks together, then 16, 4 and 1 beside no other suspect, until that happened three times.
    assert len(workers.started) <= 4 + POISON_AFTER + 1


async def test_one_poisonous_task_of_a_thousand_is_found_and_the_others_are_accepted(world: World) -> None:
    await world.up("planner-and-judge")
    inputs: list[object] = [*range(1_000)]
    inputs[500] = {"exit": True}
    await world.submit(drive.spec(agent="neighbour", inputs=inputs))
    async with world.controlled() as workers:
        mission = await world.final(timeout_s=90)
    assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 999)
    poisonous = await world.stores.tasks.get("m1.500")
    assert (poisonous.status, poisonous.reason) == ("FAILED", "poisoned")
    assert mission.counts["FAILED"] == 1
    await world.committed_once(999)
    assert len(workers.started) <= 2 * (2 + 3 + POISON_AFTER)


async def test_code_that_holds_the_interpreter_costs_leases_but_no_blame(world: World) -> None:
    hold_s = 2.5 * world.settings.lease_s
    gate = {"gate": str(world.gate())}
    stalled = await world.up("worker", "stalled")
    await world.up("planner-and-judge")
    inputs = [*[gate] * 7, {"hold_s": hold_s, **gate}]
    await world.submit(drive.spec(agent="backtracks", inputs=inputs, task_timeout_s=60))
    await world.mission(
        lambda one: one.counts["READY"] > 0 or one.tallies.get("crashes", 0) > 0, "its leases end"
    )
    await world.up("worker", "other")

    async def elsewhere() -> bool:
        return len(await world.held_by("other")) == 8

    await until(elsewhere, "another worker has its tasks")
    world.gate().touch()
    mission = await world.final()
    assert mission.counts["ACCEPTED"] == 8
    culprit = await stalled.says("worker.stalled")
    assert culprit.task_id == "m1.7"
    await stalled.says("lease.lost")
    # Once it is back all that was taken from it counts as late, and nothing as a crash.
    mission = await world.mission(lambda one: one.tallies == {"lapses": 8}, "no crash is counted")
    await world.committed_once(8)
