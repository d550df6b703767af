"""Starts of a local fleet that do not come to an end: nothing may stay of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chimera.errors import BackendError, ConfigurationError
from chimera.serving.local import fleet, remains
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.local.state import Fleet, StateDir
from chimera.settings import Settings

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[3]
INTERRUPTED = """
import pathlib, sys
from chimera.serving.local import fleet
from chimera.settings import Settings
settings = Settings(state_dir=pathlib.Path(sys.argv[1]), http_port=int(sys.argv[2]))
try:
    fleet.up(settings, progress=lambda event: print(event.stage, event.status, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "fleet", http_port=free_port())


def nothing_runs(settings: Settings) -> bool:
    state = StateDir(settings.state_dir)
    return not remains.find(state) and fleet.find(settings) is None and not state.short.exists()


def test_taken_port_is_named_with_its_holder_and_its_variable(settings: Settings) -> None:
    with socket.create_server((LOOPBACK, settings.http_port)), pytest.raises(ConfigurationError) as refused:
        fleet.up(settings)
    sentence = str(refused.value)
    assert f"port {settings.http_port}" in sentence
    assert f"(pid {os.getpid()})" in sentence
    assert "CHIMERA_HTTP_PORT" in sentence
    assert nothing_runs(settings)


def test_unreachable_redis_is_named_and_nothing_runs(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"redis_url": f"redis://:hidden@{LOOPBACK}:{free_port()}/0"})
    elsewhere = Settings(**elsewhere.model_dump(exclude_unset=True))
    with pytest.raises(ConfigurationError, match="CHIMERA_REDIS_URL") as refused:
        fleet.up(elsewhere)
    assert "hidden" not in str(refused.value)
    assert nothing_runs(settings)


def test_refused_application_is_reported_with_its_log_and_nothing_runs(settings: Settings) -> None:
    with pytest.raises(BackendError, match=r"no Serve application at chimera\.version:nothing") as refused:
        fleet.up(settings, app="chimera.version:nothing")
    assert str(settings.state_dir / "logs") in str(refused.value)
    assert nothing_runs(settings)


def test_somebody_elses_state_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="CHIMERA_STATE_DIR"):
        fleet.up(Settings(state_dir=tmp_path / "file", http_port=free_port()))


@pytest.mark.parametrize("moment", ["redis started", "ray started"])
def test_interrupted_up_leaves_nothing(settings: Settings, moment: str) -> None:
    arguments = [str(settings.state_dir), str(settings.http_port)]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as starting:
        assert starting.stdout is not None
        assert any(line.strip() == moment for line in starting.stdout)
        starting.send_signal(signal.SIGINT)
        assert starting.wait(30) == 130
    assert nothing_runs(settings)


def test_remains_of_a_crashed_fleet_are_ended_by_down(settings: Settings) -> None:
    state = StateDir(settings.state_dir)
    state.prepare()
    marked = {**os.environ, remains.MARKER: state.id}
    with subprocess.Popen(["sleep", "60"], env=marked) as left:
        assert fleet.down(settings)
        assert left.wait(5) == -signal.SIGTERM
    assert not fleet.down(settings)


def test_processes_of_another_fleet_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    other = StateDir(tmp_path / "other")
    with subprocess.Popen(["sleep", "60"], env={**os.environ, remains.MARKER: other.id}) as neighbour:
        fleet.down(settings)
        assert neighbour.poll() is None
        neighbour.kill()


def test_recycled_pid_is_not_taken_for_a_fleet(settings: Settings) -> None:
    state = StateDir(settings.state_dir)
    state.prepare()
    recycled = {"supervisor": {"pid": os.getpid(), "started": 1}}
    record = {
        **dict.fromkeys(("url", "dashboard_url", "ray_address", "redis_url"), ""),
        **dict.fromkeys(("api_key_file", "ray_token_file", "directory"), state.path),
    }
    state.write(
        Fleet.model_validate(
            {
                **record,
                "id": state.id,
                "version": "0",
                "ready": True,
                "started_at": "2026-01-01T00:00:00Z",
                "processes": recycled,
            }
        )
    )
    assert fleet.find(settings) is None
    fleet.down(settings)  # this test would not see its end
    assert state.read() is None
