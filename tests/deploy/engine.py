"""The Docker engine of these tests: one that answers already, else Debian's, brought by `bin/engine`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.leftovers import MARK

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build/deploy"
"""What engine and containers said, for after a failure."""


def say(text: str) -> None:
    """Progress, past pytest's capture: a run takes minutes."""
    sys.__stderr__ and sys.__stderr__.write(f"deploy: {time.strftime('%H:%M:%S')} {text}\n")


@dataclass(frozen=True)
class Engine:
    """An engine that answers.

    Attributes:
        host: what DOCKER_HOST is set to.
        client: its `docker`; another one on PATH may not go with Debian's engine.
        ours: it was started for these tests, and has nobody else's images.
    """

    host: str
    client: str
    ours: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *words: str | Path, given: str | None = None, check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """`docker WORDS`, with text on its stdin."""
        done = subprocess.run(
            [self.client, *map(str, words)],
            env=self.environ(),
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check:
            assert done.returncode == 0, f"docker {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
        return done

    def __call__(self, *words: str | Path, given: str | None = None, timeout_s: float = 120) -> str:
        """The same, and what it prints."""
        return self.run(*words, given=given, timeout_s=timeout_s).stdout.strip()

    def environ(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {**os.environ, **self.environment, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1"}

    def crash(self, container: str, image: str) -> None:
        """End the first process of a container by SIGKILL from outside, as a crash does: `docker kill` would
        count as somebody's wish, after which nothing is started again."""
        pid = self("inspect", "--format", "{{.State.Pid}}", container)
        self.outside(image, f"kill -KILL {pid}")

    def outside(self, image: str, script: str) -> str:
        """Run a line of shell as root among all processes of the engine's machine."""
        as_root = ("--user", "0", "--pid", "host", "--entrypoint", "sh")
        return self("run", "--rm", *as_root, image, "-c", script)


@contextmanager
def running() -> Iterator[Engine]:
    """An engine. One that was started for this is ended, and its data removed; unless ENGINE_DIR names a
    place for that, where both stay for the next run. One that answered already is left as it is.

    Raises:
        AssertionError: there is none, and none can be started.
    """
    kept = os.environ.get("ENGINE_DIR")
    # Sockets' paths are short, and images are large: not beside the tests' other files.
    directory = kept or tempfile.mkdtemp(prefix="chimera-engine-", dir="/var/tmp")
    environ = {**os.environ, "ENGINE_DIR": directory}
    if kept:
        environ.pop(MARK, None)  # it outlives the run, which would end it otherwise, and fail

    def script(verb: str) -> str:
        done = subprocess.run(
            [ROOT / "bin/engine", verb],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"bin/engine {verb} failed: what it says is above"
        return done.stdout.strip().rpartition("\n")[2]

    say("an engine")
    ours = True  # until another's answers: a start that failed may have left something too
    try:
        host = script("start")
        ours = host == f"unix://{directory}/docker.sock"
        # Debian's client for Debian's engine.
        client = shutil.which("docker", path="/usr/bin") if ours else shutil.which("docker")
        assert client, "an engine answers, but there is no `docker` to call it by"
        say(f"it is at {host}")
        yield Engine(host, client, ours)
    finally:
        if ours and not kept:
            say("the engine goes")
            script("remove")
            say("it is gone")
        elif not kept:
            Path(directory).rmdir()
