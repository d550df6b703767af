"""Where commands find the hub, and the key for it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chimera.cli.hub import Hub, locate
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import Fleet, StateDir
from chimera.version import __version__

URL = "http://127.0.0.1:9"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    """A fleet's directory, which the environment names."""
    made = StateDir(tmp_path / "fleet")
    made.path.mkdir(mode=0o700)
    made.api_key.write_text("chi_its_own", encoding="utf-8")
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(made.path))
    return made


def record(state: StateDir, supervisor: ProcessId, *, ready: bool) -> None:
    """What a supervisor writes down."""
    fleet = Fleet(
        id=state.id,
        version=__version__,
        ready=ready,
        started_at=datetime.now(UTC),
        processes={"supervisor": supervisor},
        url=URL,
        dashboard_url="",
        ray_address="",
        redis_url="",
        api_key_file=state.api_key,
        ray_token_file=state.ray_token,
        directory=state.path,
    )
    state.write(fleet)


@pytest.mark.parametrize("ready", [True, False], ids=["whole", "short of a part"])
def test_a_fleet_that_runs_is_asked_with_its_key_also_while_a_part_is_being_brought_back(
    state: StateDir, ready: bool
) -> None:
    living = ProcessId.of(os.getpid())
    assert living is not None
    record(state, living, ready=ready)
    assert locate("", "") == Hub(URL, "chi_its_own")
    assert locate("http://127.0.0.1:10", "").api_key == "", "nobody else is told it"


def test_a_fleet_whose_supervisor_is_gone_is_none(state: StateDir) -> None:
    record(state, ProcessId(pid=os.getpid(), started=1), ready=True)
    assert locate("", "").api_key == ""
