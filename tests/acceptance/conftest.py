"""One real fleet for all acceptance tests, started and ended by the real command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.core.views import FleetView, ReadyView
from chimera.serving.local import remains
from chimera.serving.local.ports import free_port
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import Fleet, StateDir
from chimera.telemetry.record import LogRecord
from tests.sharing import starting

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FIRST_AGENT = ROOT / "docs" / "first-agent.md"
AGENTS = (
    ROOT / "examples/agents/word_count.py",
    ROOT / "examples/agents/patient_count.py",
    Path(__file__).with_name("agents.py"),
    ROOT / "tests/serving/thief.py",
)
SLOTS = 64


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def ok(self) -> Done:
        """Itself, if it ended well."""
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self


@dataclass(frozen=True)
class Shell:
    """Runs commands as a person would: real processes in a directory and an environment."""

    directory: Path
    environment: Mapping[str, str]

    def command(self, *words: str | Path, timeout_s: float = 120) -> Done:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *words: str | Path, timeout_s: float = 120) -> Done:
        """`chimera WORDS`."""
        return self.command(BIN / "chimera", *words, timeout_s=timeout_s)

    def given(self, **variables: object) -> Shell:
        """The same with more variables."""
        return Shell(
            self.directory, {**self.environment, **{name: str(value) for name, value in variables.items()}}
        )

    def write(self, name: str, content: str | Mapping[str, Any]) -> Path:
        path = self.directory / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def mission(self, name: str = "mission.json", **fields: Any) -> Path:
        """A mission file; what is not given is what all these missions have in common."""
        return self.write(name, {"goal": "Accept it.", "budget_usd": "0.01", "max_attempts": 1, **fields})


@dataclass(frozen=True)
class LiveFleet(Shell):
    """A shell that finds the fleet, and the fleet seen from outside."""

    def within(self, directory: Path) -> LiveFleet:
        return LiveFleet(directory, self.environment)

    @property
    def state(self) -> StateDir:
        return StateDir(Path(self.environment["CHIMERA_STATE_DIR"]))

    @property
    def log(self) -> Path:
        """What the fleet's command has written to stdout and stderr."""
        return self.state.path.with_name("fleet.log")

    @property
    def is_up(self) -> bool:
        """Whether it is recorded as ready."""
        found = self.state.read()
        return found is not None and found.ready

    @property
    def record(self) -> Fleet:
        found = self.state.read()
        assert found is not None, "no fleet is recorded"
        return found

    def submit(self, **fields: Any) -> str:
        """Submit a mission; its id."""
        return self("mission", "submit", self.mission(**fields)).ok().out.strip()

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.record.api_key()}"}
        return httpx.get(self.record.url + path, headers=headers, timeout=10)

    def view(self) -> FleetView:
        return FleetView.model_validate(self.get("/v1/fleet").raise_for_status().json())

    def ready(self) -> bool:
        """Whether the hub answers, and all its parts are well."""
        try:
            return ReadyView.model_validate(self.get("/readyz").json()).ready
        except (httpx.HTTPError, ValueError):
            return False

    def actors(self, name: str) -> set[ProcessId]:
        """The fleet's processes that Ray has named so, such as ``ray::GovernorActor``."""
        return {process for process in remains.find(self.state) if name in " ".join(process.command_line())}

    def written(self, stream: str) -> list[str]:
        """All lines that Ray's worker processes, actors and replicas, wrote to `out` or `err`."""
        files = sorted((self.state.ray_temp / "session_latest/logs").glob(f"worker-*.{stream}"))
        return [line for file in files for line in file.read_text("utf-8", "replace").splitlines()]

    def records(self, event: str) -> list[LogRecord]:
        """What they have logged of one event."""
        lines = [line for line in self.written("out") if line.startswith("{") and f'"{event}"' in line]
        found = [LogRecord.model_validate_json(line) for line in lines]
        return [record for record in found if record.event == event]


def eventually(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)  # the state of other processes, which tell nobody
    return False


def blocks(language: str, text: str) -> list[str]:
    """The fenced blocks of a language in a Markdown document."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def clean() -> dict[str, str]:
    """The environment, without what would lead a command to somebody else's fleet."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CHIMERA_", "RAY_"))}


@pytest.fixture(scope="package")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """The fleet, started as docs/first-agent.md says, with the newcomer's agent beside the tests' own; and as
    in a container, in the foreground: all that it says is in `fleet.log`."""
    directory = tmp_path_factory.mktemp("fleet")
    code, *_ = blocks("python", FIRST_AGENT.read_text(encoding="utf-8"))
    fleet = LiveFleet(
        directory,
        {
            **clean(),
            "CHIMERA_STATE_DIR": str(directory / "state"),
            "CHIMERA_HTTP_PORT": str(free_port()),
            "CHIMERA_AGENTS": ",".join(map(str, AGENTS)),
            "CHIMERA_SLOTS": str(SLOTS),
            "CHIMERA_TENANT_SECRETS_DIR": str(directory / "secrets"),
        },
    )
    fleet.write("my_agents.py", code)
    with fleet.log.open("wb") as log:
        command = [str(BIN / "chimera"), "up", "--foreground", "--agents", "my_agents.py"]
        with starting():
            process = subprocess.Popen(
                command, cwd=directory, env=dict(fleet.environment), stdout=log, stderr=log
            )
            came = eventually(lambda: fleet.is_up or process.poll() is not None, 300)
    try:
        assert came, fleet.log.read_text()
        assert process.poll() is None, fleet.log.read_text()
        yield fleet
    finally:
        process.terminate()
        try:
            ended = process.wait(150)
        except subprocess.TimeoutExpired:
            process.kill()
            ended = process.wait()
            fleet("down")
        left = remains.find(fleet.state)
    assert (ended, left) == (0, []), f"{fleet.log.read_text()[-3_000:]}\n{left}"


@pytest.fixture
def fleet(started: LiveFleet, tmp_path: Path) -> LiveFleet:
    """The fleet, well, and a directory of the test's own."""
    assert eventually(started.ready), started.get("/readyz").text
    return started.within(tmp_path)
