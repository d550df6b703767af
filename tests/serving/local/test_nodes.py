"""Ray nodes beside the head: they run the workers, and one that dies is started again."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from chimera.chaos.site import AGENTS
from chimera.serving.local import remains
from chimera.serving.local.ports import free_port
from tests.acceptance.conftest import LiveFleet, clean, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.chaos,
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(420),
]
INPUTS = [{"n": n, "seconds": 6.0, "pays": False, "fails": False, "hook": ""} for n in range(8)]


def test_a_node_that_dies_takes_no_result_with_it(tmp_path: Path) -> None:
    fleet = LiveFleet(
        tmp_path,
        {
            **clean(),
            "CHIMERA_STATE_DIR": str(tmp_path / "state"),
            "CHIMERA_HTTP_PORT": str(free_port()),
            "CHIMERA_AGENTS": AGENTS,
            "CHIMERA_NODES": "2",
        },
    )
    try:
        fleet("up", timeout_s=300).ok()
        mission_id = fleet.submit(agent="chaos-drill", inputs=INPUTS)
        assert eventually(lambda: sum(worker.busy for worker in fleet.view().workers) == len(INPUTS))
        (worker,) = [worker for worker in fleet.view().workers if worker.busy]
        nodes = {
            name: process for name, process in fleet.record.processes.items() if name.startswith("node-")
        }
        (home,) = [
            name
            for name, process in nodes.items()
            if worker.pid in {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        ]
        for child in psutil.Process(nodes[home].pid).children(recursive=True):
            child.send_signal(signal.SIGKILL)
        nodes[home].send(signal.SIGKILL)

        watched = fleet("mission", "watch", mission_id, "-o", "json", timeout_s=180).ok()
        mission = watched.lines[-1]["mission"]
        assert mission["counts"]["ACCEPTED"] == len(INPUTS)
        assert mission["tallies"] == {"crashes": len(INPUTS)}
        assert eventually(lambda: (now := fleet.record.processes[home]) != nodes[home] and now.is_alive())
    finally:
        ended = fleet("down")
        left = remains.find(fleet.state)
    assert (ended.code, left) == (0, [])
