"""What belongs to a fleet is found by its mark, its command line and what it writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chimera.serving.local import remains
from chimera.serving.local.state import StateDir

OPENS = "import sys; file = open(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    made = StateDir(tmp_path / "fleet")
    made.make_directories()
    made.ray_temp.mkdir()
    yield made
    made.forget()


def test_who_writes_into_its_temporary_directory_belongs_to_a_fleet_and_who_reads_there_does_not(
    state: StateDir,
) -> None:
    log = state.ray_temp / "worker.out"
    log.touch()
    with ExitStack() as held:
        pids = {}
        for mode in ("r", "a", "r+"):
            # From within its directory: the path is on no command line.
            command = [sys.executable, "-c", OPENS, log.name, mode]
            process = held.enter_context(
                subprocess.Popen(
                    command, cwd=log.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            pids[process.pid] = mode
        found = {pids.get(process.pid) for process in remains.find(state)}
    assert found == {"a", "r+"}
