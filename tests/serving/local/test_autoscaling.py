"""Ray's own autoscaler: nodes come with the work and go with it, and what is urgent does not wait for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chimera.core.event import Event
from chimera.core.views import MissionView
from chimera.serving.local import remains
from chimera.serving.local.ports import free_port
from tests.acceptance.conftest import LiveFleet, clean, eventually
from tests.sharing import starting

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NODES, SLOTS = 2, 4
HIGH_S = 10.0
"""High priority is accepted within this, also without any node."""
TRIALS = 2
AGENTS = Path(__file__).with_name("sleeper.py")


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """A fleet whose nodes Ray's autoscaler adds and removes; the hub is on the head."""
    directory = tmp_path_factory.mktemp("scaled")
    fleet = LiveFleet(
        directory,
        {
            **clean(),
            "CHIMERA_STATE_DIR": str(directory / "state"),
            "CHIMERA_HTTP_PORT": str(free_port()),
            "CHIMERA_AGENTS": str(AGENTS),
            "CHIMERA_SLOTS": str(SLOTS),
            "CHIMERA_EXPRESS_SLOTS": "0",
            "CHIMERA_MAX_WORKERS": "3",
            "CHIMERA_NODES": str(NODES),
            "CHIMERA_NODE_IDLE_S": "2",
            "CHIMERA_IDLE_S": "2",
            "CHIMERA_SPARES": "1",
        },
    )
    try:
        with starting():
            fleet("up", timeout_s=300).ok()
        yield fleet
    finally:
        ended = fleet("down")
        left = remains.find(fleet.state)
    assert (ended.code, left) == (0, [])


def raylets(fleet: LiveFleet) -> int:
    """Ray nodes beside the head."""
    found = 0
    for process in remains.find(fleet.state):
        try:
            found += psutil.Process(process.pid).name() == "raylet"
        except psutil.NoSuchProcess:
            continue
    return found - 1


def ended(fleet: LiveFleet, mission_id: str) -> MissionView:
    watched = fleet("mission", "watch", mission_id, "-o", "json", timeout_s=120).ok()
    return MissionView.model_validate(watched.lines[-1]["mission"])


def spare_waits(fleet: LiveFleet) -> bool:
    """Whether a spare has come up that is nobody's yet: as many as were given have been replaced."""
    return len(fleet.records("spare.ready")) > len(fleet.records("spare.bound"))


def at_rest(fleet: LiveFleet) -> bool:
    """No worker of anybody, and no node."""
    return not fleet.view().workers and raylets(fleet) == 0


def test_nodes_come_with_work_and_go_with_it(scaled: LiveFleet) -> None:
    assert eventually(lambda: at_rest(scaled)), "it begins with no node"
    mission_id = scaled.submit(agent="sleeper", inputs=[12.0] * 3 * SLOTS)
    assert eventually(lambda: raylets(scaled) == NODES), "three workers need both nodes"
    mission = ended(scaled, mission_id)
    assert (mission.accepted, mission.tallies) == (3 * SLOTS, {}), "nothing ran twice"
    assert eventually(lambda: at_rest(scaled)), "and ends with none"


def test_high_priority_does_not_wait_for_a_node(scaled: LiveFleet) -> None:
    for _ in range(TRIALS):
        assert eventually(lambda: at_rest(scaled) and spare_waits(scaled))
        mission_id = scaled.submit(agent="sleeper", inputs=[2.0], priority="high")
        assert ended(scaled, mission_id).accepted == 1
        shown = scaled("recorder", "show", mission_id, "-o", "json").ok().lines
        events = [Event.model_validate(one) for one in shown]
        at = {event.kind: event.at.timestamp() for event in events}
        assert at["task.accepted"] - at["mission.submitted"] < HIGH_S, events
        (claim,) = [event for event in events if event.kind == "task.claimed"]
        assert claim.by.startswith("spare-")
