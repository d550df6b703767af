"""The compose stack, seen from outside: what its engine says of it, and what its API does.

It is brought up as docs/containers.md has it: in a folder with `docker/`, whose `.env` is made by
`docker/secrets`, from the shell that its client has too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chimera.core.views import FleetView, MissionView
from chimera.serving.local.ports import LOOPBACK, free_port
from tests.acceptance.conftest import Shell, clean, eventually
from tests.deploy.engine import LOGS, ROOT, Engine, say

FILES = ("docker/compose.yaml", "docker/agents.yaml")
OURS = ("chimera-core", "chimera-worker", "chimera-judge", "chimera-model")
"""The services that run the image."""


@dataclass(frozen=True)
class Stack:
    """A stack that runs.

    Attributes:
        directory: where `docker/` is.
        shell: commands of `chimera` on this machine, which find it.
        secrets: what docker/secrets made for it.
    """

    engine: Engine
    image: str
    project: str
    directory: Path
    shell: Shell
    secrets: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.shell.environment["CHIMERA_URL"]

    def compose(self, *words: str, timeout_s: float = 120) -> str:
        """`docker compose WORDS`, and what it prints."""
        done = subprocess.run(
            [
                *(ROOT / "bin/compose", "--project-name", self.project),
                *(word for file in FILES for word in ("--file", file)),
                *words,
            ],
            cwd=self.directory,
            # What the client was told by `export` is there, as it is in a reader's shell; of another stack
            # nothing is.
            env={
                name: value
                for name, value in {**self.engine.environ(), **self.shell.environment}.items()
                if not name.startswith("STACK_")
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"compose {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self, *words: str) -> None:
        """Bring it up, or change it; until all of it is healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "240", *words, timeout_s=300)
        assert eventually(self.ready, 60), self.readiness()

    def tell(self, **values: str) -> None:
        """Write other values into docker/.env."""
        file = self.directory / "docker/.env"
        kept = [line for line in file.read_text("utf-8").splitlines() if line.partition("=")[0] not in values]
        told = [f"{name}={value}" for name, value in values.items()]
        file.write_text("\n".join([*kept, *told, ""]), encoding="utf-8")

    def keep_log(self) -> None:
        """Put what its containers have said where it outlives them: in LOGS."""
        said = self.compose("logs", "--no-color", "--timestamps") + self.compose("ps", "--all")
        with (LOGS / "stack.log").open("a", encoding="utf-8") as log:
            log.write(said)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers, those that have ended too."""
        return self.compose("ps", "--all", "--quiet", "--no-trunc", service).split()

    def the(self, service: str) -> str:
        """The one container of a service."""
        (found,) = self.containers(service)
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        (found,) = json.loads(self.engine("inspect", container))
        known: dict[str, Any] = found
        return known

    def crash(self, container: str) -> None:
        """End its first process, and so all of it, by SIGKILL."""
        self.engine.crash(container, self.image)

    def restarted(self, container: str, times: int) -> bool:
        """Whether the engine has started it again so often, and it is healthy."""
        known = self.inspect(container)
        healthy: bool = known["State"]["Health"]["Status"] == "healthy"
        return healthy and known["RestartCount"] == times

    def within(self, container: str, *words: str) -> str:
        """What a command says in it."""
        return self.engine("exec", container, *words)

    def ready(self) -> bool:
        """Whether every part of it is well."""
        return all(part["ok"] for part in self.readiness().values())

    def readiness(self) -> dict[str, dict[str, Any]]:
        """Its parts, as it tells of them; one that is not there where it does not answer."""
        try:
            parts: dict[str, dict[str, Any]] = httpx.get(f"{self.url}/readyz", timeout=5).json()["parts"]
        except (httpx.HTTPError, ValueError) as exc:
            return {"gateway": {"ok": False, "detail": repr(exc)}}
        return parts

    def submit(self, count: int, **fields: Any) -> str:
        """Submit a mission of so many squares; its id."""
        file = self.shell.mission(agent="square", inputs=list(range(count)), **fields)
        return self.shell("mission", "submit", file).ok().out.strip()

    def mission(self, mission_id: str) -> MissionView:
        """How it stands now."""
        return MissionView.model_validate(self._get(f"/v1/missions/{mission_id}"))

    def busy(self) -> int:
        """How many workers have something under way."""
        return sum(one.busy > 0 for one in FleetView.model_validate(self._get("/v1/fleet")).workers)

    def _get(self, path: str) -> Any:
        key = self.shell.environment["CHIMERA_API_KEY"]
        got = httpx.get(self.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=10)
        return got.raise_for_status().json()

    def comes(self, mission_id: str, condition: Callable[[MissionView], object], seconds: float = 60) -> None:
        """Wait until a mission stands so."""
        assert eventually(lambda: condition(self.mission(mission_id)), seconds), self.mission(mission_id)

    def ended(self, mission_id: str) -> MissionView:
        """Watch it to its end, which is a good one."""
        done = self.shell("mission", "watch", mission_id, "-o", "json", timeout_s=240).ok()
        return MissionView.model_validate(done.lines[-1]["mission"])

    def results(self, mission_id: str) -> list[dict[str, Any]]:
        """Its accepted results, of which each task has one."""
        found = self.shell("mission", "results", mission_id, "-o", "json").ok().lines
        assert max(Counter(one["task_id"] for one in found).values()) == 1
        return [one["result"] for one in found]

    def squares(self, mission_id: str, count: int) -> None:
        """Every one of its results is there, once, and right."""
        found = sorted((one["number"], one["square"]) for one in self.results(mission_id))
        assert found == [(number, number * number) for number in range(count)]

    def log(self, container: str) -> list[str]:
        """Every line that it has said, on stdout and stderr."""
        said = self.engine.run("logs", container)
        return [*said.stdout.splitlines(), *said.stderr.splitlines()]


@contextmanager
def running(engine: Engine, image: str, directory: Path) -> Iterator[Stack]:
    """The stack, under secrets of its own; all of it is removed afterwards, and what it said is in LOGS."""
    port, project = free_port(), f"chimera-test-{os.getpid()}"
    (directory / "docker").mkdir()
    for file in ("docker/compose.yaml", "docker/secrets", "tests/deploy/agents.yaml"):
        shutil.copy(ROOT / file, directory / "docker")
    subprocess.run(["docker/secrets", "docker/.env"], cwd=directory, check=True, timeout=30)
    secrets = dict(line.split("=", 1) for line in (directory / "docker/.env").read_text("utf-8").splitlines())
    client = {
        "CHIMERA_URL": f"http://{LOOPBACK}:{port}",
        "CHIMERA_API_KEY": secrets["STACK_API_KEY"],
    }
    stack = Stack(engine, image, project, directory, Shell(directory, {**clean(), **client}), secrets)
    stack.tell(
        STACK_IMAGE=image,
        STACK_PUBLISH=f"{LOOPBACK}:{port}",
        AGENTS_FILE=str(ROOT / "tests/deploy/agents.py"),
    )
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / "stack.log").unlink(missing_ok=True)
    try:
        say("the stack comes up")
        stack.up()
        say("it is up")
        yield stack
    finally:
        try:
            stack.keep_log()
        finally:
            stack.compose("down", "--volumes", "--timeout", "5")
