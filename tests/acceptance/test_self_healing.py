"""What is killed comes back, and no work is lost or done twice in the results."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from chimera.core.views import MissionView
from chimera.serving.local.process import ProcessId
from tests.acceptance.conftest import LiveFleet, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.chaos,
    pytest.mark.timeout(420),
]
NUMBERS = list(range(12))


def ended(fleet: LiveFleet, mission_id: str) -> MissionView:
    """Watch the mission to its end, which is a good one."""
    done = fleet("mission", "watch", mission_id, "-o", "json", timeout_s=180).ok()
    return MissionView.model_validate(done.lines[-1]["mission"])


def results(fleet: LiveFleet, mission_id: str) -> dict[str, object]:
    """Accepted results by task, of which each appears once."""
    found = fleet("mission", "results", mission_id, "-o", "json").ok().lines
    assert max(Counter(one["task_id"] for one in found).values()) == 1
    return {one["task_id"].removeprefix(mission_id): one["result"] for one in found}


def test_a_killed_worker_changes_no_result(fleet: LiveFleet) -> None:
    undisturbed = fleet.submit(agent="square", inputs=NUMBERS)
    assert "crashes" not in ended(fleet, undisturbed).tallies

    mission_id = fleet.submit(agent="square", inputs=NUMBERS, options={"rest_s": 4})
    assert eventually(lambda: sum(worker.busy for worker in fleet.view().workers) == len(NUMBERS))
    (victim,) = [worker for worker in fleet.view().workers if worker.busy]
    process = ProcessId.of(victim.pid)
    assert process is not None
    assert process.send(signal.SIGKILL)

    mission = ended(fleet, mission_id)
    assert mission.accepted == len(NUMBERS)
    assert mission.tallies == {"crashes": len(NUMBERS)}
    assert results(fleet, mission_id) == results(fleet, undisturbed)
    assert victim.worker not in {worker.worker for worker in fleet.view().workers}


def test_a_killed_governor_returns_by_itself_and_money_flows_again(fleet: LiveFleet) -> None:
    (old,) = fleet.actors("ray::GovernorActor")
    assert old.send(signal.SIGKILL)
    mission = ended(fleet, fleet.submit(agent="pay", inputs=NUMBERS))
    assert mission.spent_microusd == 7 * len(NUMBERS)
    assert mission.held_microusd == 0
    (new,) = fleet.actors("ray::GovernorActor")
    assert new != old


@pytest.mark.parametrize("part", ["ray::GovernorActor", "ray::ServeReplica:chimera:Judge"])
def test_a_part_that_hangs_is_found_and_replaced(fleet: LiveFleet, part: str) -> None:
    (old,) = fleet.actors(part)
    assert old.send(signal.SIGSTOP)
    try:
        assert eventually(lambda: fleet.actors(part) - {old}, 120), "nobody has noticed"
        mission = ended(fleet, fleet.submit(agent="pay", inputs=NUMBERS[:2]))
        assert (mission.accepted, mission.spent_microusd) == (2, 14)
    finally:
        old.send(signal.SIGKILL)
    assert eventually(fleet.ready)


@pytest.mark.parametrize("role", ["Judge", "Orchestrator", "Gateway"])
def test_a_killed_replica_delays_a_mission_and_no_more(fleet: LiveFleet, role: str) -> None:
    mission_id = fleet.submit(agent="square", inputs=NUMBERS, options={"rest_s": 2})
    replicas = fleet.actors(f"ray::ServeReplica:chimera:{role}")
    for old in replicas:
        assert old.send(signal.SIGKILL)
    mission = ended(fleet, mission_id)
    assert mission.accepted == len(NUMBERS)
    assert "crashes" not in mission.tallies
    assert eventually(
        lambda: len(fleet.actors(f"ray::ServeReplica:chimera:{role}") - replicas) == len(replicas)
    )
    assert eventually(fleet.ready)


def test_an_agent_that_blocks_its_worker_costs_no_neighbour_its_lease(fleet: LiveFleet) -> None:
    # High priority may use every slot of a worker: 64 agents, of which one sleeps for four leases.
    inputs = [{"block_s": 0}] * 20 + [{"block_s": 12}] + [{"block_s": 0}] * 43
    mission_id = fleet.submit(agent="block", inputs=inputs, priority="high")
    mission = ended(fleet, mission_id)
    assert (mission.accepted, mission.tallies) == (64, {})
    pids = {str(result) for result in results(fleet, mission_id).values()}
    assert len(pids) == 1, "the 64 ran in more than one worker: this proves less than it should"
    assert f"{mission_id}.20" in {record.task_id for record in fleet.records("agent.blocks_loop")}
