"""Ray nodes beside the head: they run the workers, and one that dies is started again."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest

from chimera.chaos.site import AGENTS
from chimera.core.views import WorkerView
from chimera.serving.local import remains
from chimera.serving.local.ports import free_port
from chimera.serving.local.process import ProcessId
from tests.acceptance.conftest import LiveFleet, clean, eventually
from tests.sharing import starting

pytestmark = [
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.timeout(600),
]
INPUTS = [{"n": n, "seconds": 6.0, "pays": False, "fails": False, "hook": ""} for n in range(8)]


def busy(fleet: LiveFleet) -> WorkerView:
    """The one worker that has all the work."""
    assert eventually(lambda: any(worker.busy == len(INPUTS) for worker in fleet.view().workers))
    (worker,) = [worker for worker in fleet.view().workers if worker.busy]
    return worker


def home_of(fleet: LiveFleet, worker: WorkerView) -> str:
    """The node that runs it."""
    (home,) = [
        name
        for name, process in fleet.record.processes.items()
        if name.startswith("node-")
        and worker.pid in {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    ]
    return home


def outcome(fleet: LiveFleet, mission_id: str) -> tuple[int, dict[str, int]]:
    """What was accepted in the end, and what went wrong on the way."""
    watched = fleet("mission", "watch", mission_id, "-o", "json", timeout_s=180).ok()
    mission = watched.lines[-1]["mission"]
    return mission["counts"]["ACCEPTED"], mission["tallies"]


def test_a_node_that_dies_takes_no_result_with_it(tmp_path: Path) -> None:
    fleet = LiveFleet(
        tmp_path,
        {
            **clean(),
            "CHIMERA_STATE_DIR": str(tmp_path / "state"),
            "CHIMERA_HTTP_PORT": str(free_port()),
            "CHIMERA_AGENTS": AGENTS,
            "CHIMERA_NODES": "2",
            "CHIMERA_PREEMPT_S": "1",
            # A spare would live on the head, and take the work.
            "CHIMERA_SPARES": "0",
        },
    )
    try:
        with starting():
            fleet("up", timeout_s=300).ok()
        mission_id = fleet.submit(agent="chaos-drill", inputs=INPUTS)
        nodes = dict(fleet.record.processes)
        worker = busy(fleet)
        home = home_of(fleet, worker)
        for child in psutil.Process(nodes[home].pid).children(recursive=True):
            child.send_signal(signal.SIGKILL)
        nodes[home].send(signal.SIGKILL)
        assert outcome(fleet, mission_id) == (len(INPUTS), {"crashes": len(INPUTS)})
        shown = fleet("fleet", "workers", "-o", "json").ok().document
        assert shown
        assert all(re.fullmatch("[0-9a-f]{56}", one["node"]) for one in shown), "Ray's ids of them"
        assert eventually(lambda: (now := fleet.record.processes[home]) != nodes[home] and now.is_alive())

        # Told to end, node and worker have time to hand back what they hold: nothing is lost, or counted.
        mission_id = fleet.submit(agent="chaos-drill", inputs=INPUTS)
        worker = busy(fleet)
        told = home_of(fleet, worker)
        before = fleet.record.processes[told]
        before.send(signal.SIGTERM)
        assert outcome(fleet, mission_id) == (len(INPUTS), {})
        assert eventually(lambda: fleet.record.processes[told] != before)
        mission_id = fleet.submit(agent="chaos-drill", inputs=INPUTS)
        told_itself = ProcessId.of(busy(fleet).pid)
        assert told_itself is not None
        assert told_itself.send(signal.SIGTERM)
        assert eventually(lambda: not told_itself.is_alive())
        assert outcome(fleet, mission_id) == (len(INPUTS), {})
    finally:
        ended = fleet("down")
        left = remains.find(fleet.state)
    assert (ended.code, left) == (0, [])
