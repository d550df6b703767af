"""The image without a command: a whole fleet in one container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.telemetry.record import LogRecord
from tests.acceptance.conftest import Shell, clean, eventually
from tests.deploy.engine import Engine

pytestmark = pytest.mark.timeout(600, func_only=True)
SHUT = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    """A volume for its state."""
    name = f"chimera-test-{os.getpid()}"
    yield name
    engine("volume", "rm", "--force", name)


@contextmanager
def running(engine: Engine, image: str, volume: str) -> Iterator[tuple[str, int]]:
    """`docker run`, as docs/containers.md has it, but for its name; and shut, as it says that it may be.

    Yields:
        Its id, and the port of this host that leads to it, when it is well.
    """
    port = free_port()
    of_document = ("--shm-size", "256m", "--stop-timeout", "60", "--volume", f"{volume}:/var/lib/chimera")
    made = engine("run", "--detach", *of_document, "--publish", f"{LOOPBACK}:{port}:8000", *SHUT, image)

    def health() -> str:
        return engine("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", made)

    try:
        assert eventually(lambda: health() != "running starting", 180)
        assert health() == "running healthy", engine.run("logs", "--tail", "20", made).stdout
        yield made, port
    finally:
        engine("rm", "--force", made)


def shell(engine: Engine, made: str, port: int, directory: Path) -> Shell:
    """Of a client with the key that the fleet has made, found as the document has it."""
    key = engine("exec", made, "cat", "/var/lib/chimera/api.key")
    return Shell(directory, {**clean(), "CHIMERA_URL": f"http://{LOOPBACK}:{port}", "CHIMERA_API_KEY": key})


def test_a_mission_with_a_model_runs_in_it_it_ends_when_it_is_asked_to_and_its_volume_keeps_all(
    engine: Engine, image: str, volume: str, tmp_path: Path
) -> None:
    """`docker run`, `docker exec` for the key, `docker stop`, and another `docker run` on the same volume."""
    with running(engine, image, volume) as (made, port):
        assert httpx.get(f"http://{LOOPBACK}:{port}/readyz", timeout=10).json()["ready"]
        client = shell(engine, made, port, tmp_path)
        file = client.mission(agent="llm", inputs=["Hello."], options={"prompt": "{input}", "max_tokens": 8})
        mission = client("run", file, "-o", "json").ok().lines[-1]["mission"]
        assert mission["counts"]["ACCEPTED"] == 1
        show = ("mission", "get", mission["mission_id"], "-o", "json")
        # Settled is what stands in the store; the governor takes it into the ledger when it comes to it.
        assert eventually(lambda: client(*show).ok().document["spent_microusd"] > 0)

        engine("stop", made)
        assert engine("inspect", "--format", "{{.State.ExitCode}}", made) == "0"
        said = engine.run("logs", made)
        lines = [*said.stdout.splitlines(), *said.stderr.splitlines()]
        assert lines
        for line in lines:
            LogRecord.model_validate_json(line)

    with running(engine, image, volume) as (made, port):
        again = shell(engine, made, port, tmp_path)
        assert again.environment["CHIMERA_API_KEY"] == client.environment["CHIMERA_API_KEY"]
        (kept,) = again("mission", "list", "-o", "json").ok().document
        assert kept["mission_id"] == mission["mission_id"]
