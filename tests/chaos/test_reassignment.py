"""A dead worker's tasks run elsewhere: by their leases alone, with a leader or without one."""

from __future__ import annotations

import asyncio
import sys

import pytest

from chimera.chaos.deaths import BOUND_S, percentiles
from tests.chaos.world import Part, World, until
from tests.store import drive

pytestmark = pytest.mark.chaos

TASKS = 24


async def reclaimed_after(world: World, mission_id: str, deaths: dict[str, float]) -> list[float]:
    """Seconds from its worker's death until each task was claimed anew."""
    claims: dict[str, list[tuple[str, float]]] = {}
    for event in await world.events("task.claimed"):
        if event.mission_id == mission_id:
            claims.setdefault(event.task_id, []).append((event.by, event.at.timestamp()))
    return [
        next(at for by, at in made if by not in deaths) - deaths[made[0][0]]
        for made in claims.values()
        if made[0][0] in deaths
    ]


async def inherits(world: World, heir: Part, mission_id: str, deaths: dict[str, float], note: str) -> None:
    """The heir comes to hold all tasks, does them, and each is committed once."""

    async def inherited() -> bool:
        return len(await world.held_by(heir.name)) == TASKS

    await until(inherited, "the heir holds all tasks")
    times = await reclaimed_after(world, mission_id, deaths)
    sys.stdout.write(f"claimed anew after a worker's death, {note}, s: {percentiles(times)}\n")
    assert len(times) == TASKS
    assert max(times) < 4 * BOUND_S
    world.gate(mission_id).touch()
    mission = await world.final(mission_id)
    assert mission.counts["ACCEPTED"] == TASKS
    assert mission.tallies == {"crashes": TASKS}


async def test_what_dead_workers_held_is_claimed_by_another_with_a_leader_or_without(world: World) -> None:
    # The default lease, and nobody who sees workers die.
    world.settings = world.settings.model_copy(
        update={"lease_s": 3.0, "heartbeat_s": 0.75, "fast_rescue": False}
    )
    leader = await world.up("planner-and-judge", "leader")
    world.begin("planner-and-judge", "other")
    victims = [world.begin("worker", f"victim{number}", slots=8) for number in range(3)]

    async def under_way(mission_id: str) -> None:
        gates = [str(world.gate(mission_id))] * TASKS
        await world.submit(drive.spec(agent="gated", inputs=gates, task_timeout_s=120), mission_id)
        await world.mission(lambda one: one.counts["PENDING"] == TASKS, "all are under way", mission_id)

    await under_way("m1")
    heir = await world.up("worker", "heir", slots=64)
    deaths = {}
    for victim in victims:
        deaths[victim.name] = victim.kill()
        await asyncio.sleep(0.3)  # at different moments of the heartbeat
    await inherits(world, heir, "m1", deaths, "the leader lives")

    last = await world.up("worker", "last", slots=64)
    last.stop()  # so that the heir gets all of it
    await under_way("m2")
    last.wake()
    await leader.says("leader.elected")
    deaths = {heir.name: heir.kill()}
    leader.kill()
    await inherits(world, last, "m2", deaths, "the leader dies with it")
    await world.committed_once(2 * TASKS)
