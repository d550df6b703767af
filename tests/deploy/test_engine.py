"""`bin/engine` leaves alone what is not its own.

Docker, iproute2 and iptables are played by scripts: no engine is needed, and nothing of this machine is
touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy import engine as engines
from tests.deploy.engine import ROOT
from tests.leftovers import MARK

PROGRAMS = {
    # An engine answers where its socket is.
    "docker": 'test -e "${DOCKER_HOST#unix://}"',
    # It makes the bridge, and leaves it when it ends; bin/engine knows it by its command line and pid.
    "dockerd": """
while [ $# -gt 0 ]; do
    case $1 in
    --pidfile) pidfile=$2 ;;
    --host) socket=${2#unix://} ;;
    esac
    shift
done
trap 'rm -f "$socket"; kill $!; exit 0' TERM
sleep 600 &
echo $$ >"$pidfile"
touch "$BRIDGE" "$socket"
wait $!
""",
    "ip": """
case $* in
'-o link')
    echo '1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536'
    if [ -e "$BRIDGE" ]; then echo '7: docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500'; fi
    ;;
'link show docker0') test -e "$BRIDGE" ;;
'link delete docker0') rm "$BRIDGE" ;;
*) exit 9 ;;
esac
""",
    "iptables": "echo -P FORWARD ACCEPT",
    # The script asks whether it is root, and is told that it is.
    "id": "echo 0",
}


@dataclass(frozen=True)
class Machine:
    """A machine that has these programs.

    Attributes:
        bridge: is there while the machine has a docker0.
        host: the socket of an engine that is not ours.
    """

    at: Path

    @property
    def bridge(self) -> Path:
        return self.at / "docker0"

    @property
    def host(self) -> Path:
        return self.at / "host.sock"

    @property
    def directory(self) -> Path:
        return self.at / "engine"

    def __call__(self, verb: str) -> str:
        """`bin/engine VERB`, and the last line of what it prints."""
        done = subprocess.run(
            [ROOT / "bin/engine", verb],
            env={
                "PATH": f"{self.at / 'bin'}:{os.environ['PATH']}",
                "ENGINE_DIR": str(self.directory),
                "ENGINE_CGROUPS": str(self.at / "cgroup"),
                "DOCKER_HOST": f"unix://{self.host}",
                "BRIDGE": str(self.bridge),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip().rpartition("\n")[2]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    made = Machine(tmp_path)
    yield made
    made("stop")


def test_an_engine_that_was_started_goes_with_its_bridge_and_its_data(machine: Machine) -> None:
    assert machine("start") == f"unix://{machine.directory}/docker.sock"
    assert machine.bridge.exists()
    machine("remove")
    assert not machine.bridge.exists()
    assert not machine.directory.exists()


def test_the_bridge_goes_too_when_the_engine_was_ended_and_started_in_between(machine: Machine) -> None:
    machine("start")
    machine("stop")
    assert machine.bridge.exists()
    machine("start")
    machine("remove")
    assert not machine.bridge.exists()


def test_a_bridge_that_was_there_before_stays(machine: Machine) -> None:
    machine.bridge.touch()
    machine("start")
    machine("remove")
    assert machine.bridge.exists()


def test_the_bridge_stays_where_another_engine_has_come_to_use_it(machine: Machine) -> None:
    machine("start")
    machine.host.touch()
    machine("remove")
    assert machine.bridge.exists()


def test_the_bridge_of_an_earlier_start_of_the_machine_is_not_taken_for_ours(machine: Machine) -> None:
    machine("start")
    machine("stop")
    (machine.directory / "bridge").write_text("another start's id\n", encoding="utf-8")
    machine("remove")
    assert machine.bridge.exists()


def test_nothing_is_taken_from_an_engine_that_was_there_already(machine: Machine) -> None:
    machine.host.touch()
    machine.bridge.touch()
    assert machine("start") == f"unix://{machine.host}"
    machine("remove")
    assert machine.bridge.exists()


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of `bin/engine` a script: here is what it was called with, and whether by a marked run."""
    script, called = tmp_path / "bin/engine", tmp_path / "called"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\necho "$1 ${{{MARK}:+marked}}" >>"{called}"\neval "echo unix://$SOCKET"\n'
        'if [ "$1" = remove ]; then rmdir "$ENGINE_DIR"; fi\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setattr(engines, "ROOT", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/somewhere/{name}")
    monkeypatch.delenv("ENGINE_DIR", raising=False)
    monkeypatch.setenv("SOCKET", "$ENGINE_DIR/docker.sock")
    return called


def test_the_tests_remove_the_engine_that_they_started(called: Path) -> None:
    with engines.running() as found:
        assert found.ours
    assert called.read_text("utf-8").splitlines() == ["start marked", "remove marked"]


def test_the_tests_leave_an_engine_that_answered_already(
    called: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCKET", "/var/run/docker.sock")
    with engines.running() as found:
        assert not found.ours
    assert called.read_text("utf-8").split() == ["start", "marked"]


def test_an_engine_that_is_to_be_kept_is_not_ended_with_the_run(
    called: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENGINE_DIR", str(tmp_path))
    with engines.running() as found:
        assert found.ours
    assert called.read_text("utf-8").split() == ["start"]
