"""The local fleet's commands, without starting one: what is refused, what is told of one that is recorded."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chimera.errors import ConfigurationError
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import Fleet, StateDir
from tests.cli.conftest import Shell

NOBODY = 65_534
ELSEWHERE = {"pid": 1, "started": 1}
"""A process that is not the one that was recorded."""


@contextmanager
def recorded(shell: Shell, *, ready: bool = True, **fields: object) -> Iterator[StateDir]:
    """A fleet in the shell's state directory: its record, its lock, and a process that stands for it."""
    state = StateDir(Path(shell.environment["CHIMERA_STATE_DIR"]))
    state.prepare()
    with subprocess.Popen(["sleep", "600"]) as supervisor, state.locked():
        alive = ProcessId.of(supervisor.pid)
        assert alive
        fleet = {
            **dict.fromkeys(("ray_address", "redis_url", "dashboard_url"), ""),
            **{"api_key_file": state.api_key, "ray_token_file": state.ray_token, "directory": state.path},
            **{"id": state.id, "version": "0", "ready": ready, "started_at": datetime.now(UTC)},
            **{"processes": {"supervisor": alive, "redis": alive}, "url": "http://127.0.0.1:9", **fields},
        }
        state.write(Fleet.model_validate(fleet))
        try:
            yield state
        finally:
            supervisor.kill()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def broken(:\n", r"SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("", "holds no agent"),
    ],
)
async def test_up_refuses_agents_that_cannot_be_loaded_before_anything_starts(
    shell: Shell, text: str, says: str
) -> None:
    file = shell.write("syn.py", text)
    for done in (await shell("up", "--agents", "syn.py"), await shell("agent", "list", "--agents", "syn.py")):
        assert done.code == 2
        assert "syn.py" in done.err
        assert says in done.err
    state = StateDir(Path(shell.environment["CHIMERA_STATE_DIR"]))
    assert file.exists()
    assert not state.logs.exists()
    assert state.read() is None


async def test_up_refuses_what_a_fleet_that_runs_cannot_give(shell: Shell) -> None:
    served, other = shell.write("served.py", ""), shell.write("other.py", "")
    with recorded(shell, agents=[str(served)]):
        assert (await shell("up")).code == 0
        assert (await shell("up", "--agents", "served.py", "--port", "9")).code == 0
        refused = await shell("up", "--agents", "served.py", "--agents", "other.py")
        assert refused.code == 3
        assert f"without the agents of {other}: `chimera down`" in refused.err
        elsewhere = await shell("up", "--port", "8077")
        assert elsewhere.code == 3
        assert "is at http://127.0.0.1:9, not http://127.0.0.1:8077" in elsewhere.err
        named = Shell(shell.directory, {**shell.environment, "CHIMERA_AGENTS": "other.py"})
        assert (await named("up")).code == 3


async def test_up_and_status_print_what_a_program_needs_and_where_logs_are(shell: Shell) -> None:
    with recorded(shell) as state:
        for done in (await shell("up"), await shell("status")):
            assert f"export CHIMERA_URL=http://127.0.0.1:9 CHIMERA_API_KEY_FILE={state.api_key}\n" in done.out
            assert (
                f"{state.logs}; hub and workers: {state.ray_temp}/session_latest/logs/worker-*.out"
                in done.out
            )
            assert "the fleet is up since" in done.out
        assert (await shell("status", "-o", "json")).document["logs"] == str(state.logs)


async def test_status_does_not_call_a_fleet_up_that_has_lost_a_part(shell: Shell) -> None:
    with recorded(shell) as state:
        fleet = state.read()
        assert fleet
        gone = ProcessId.model_validate(ELSEWHERE)
        state.write(fleet.model_copy(update={"processes": {**fleet.processes, "redis": gone}}))
        done = await shell("status")
        assert "is up" not in done.out
        assert "but redis died: the supervisor starts it again" in done.out
    with recorded(shell, ready=False):
        assert "is not ready" in (await shell("status")).out


@contextmanager
def nobodys_eyes(closed: Path) -> Iterator[None]:
    """As somebody whom a directory keeps out: modes of files do not apply to root."""
    closed.chmod(0o000)
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A directory of this user's, where everybody may look for it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        directory = Path(place) / "state"
        directory.mkdir()
        yield directory


@pytest.mark.parametrize("command", ["doctor", "mission list", "status", "down", "agent list"])
async def test_somebody_elses_state_directory_is_a_usage_error_with_the_next_step(
    shell: Shell, theirs: Path, command: str
) -> None:
    stranger = Shell(theirs.parent, {**shell.environment, "CHIMERA_STATE_DIR": str(theirs)})
    # Everything is imported first: nobody can read the interpreter's own files.
    await stranger(*command.split())
    with nobodys_eyes(theirs):
        done = await stranger(*command.split())
    assert done.code == 2, done
    assert str(theirs) in done.out + done.err
    assert "set CHIMERA_STATE_DIR to a directory of yours" in done.out + done.err
    assert "nobody foresaw" not in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that is somebody else's")
def test_nobody_is_told_to_remove_somebody_elses_state_directory(theirs: Path) -> None:
    with (
        nobodys_eyes(theirs),
        pytest.raises(ConfigurationError, match="somebody else's: set CHIMERA_STATE_DIR") as refused,
    ):
        StateDir(theirs).prepare()
    assert "remove" not in str(refused.value)


async def test_the_port_of_the_environment_is_the_address_that_is_asked(shell: Shell) -> None:
    elsewhere = Shell(shell.directory, {**shell.environment, "CHIMERA_HTTP_PORT": "9"})
    assert "no hub answers at http://127.0.0.1:9 " in (await elsewhere("mission", "list")).err


@pytest.mark.parametrize("url", ["notaurl", "127.0.0.1:8000", "http://", "ftp://hub"])
async def test_an_address_that_is_none_is_a_usage_error(shell: Shell, url: str) -> None:
    done = await shell("mission", "list", "--url", url)
    assert done.code == 2
    assert "http://HOST:PORT" in done.err
