"""The image without a command: a whole fleet in one container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.telemetry.record import LogRecord
from tests.acceptance.conftest import Shell, clean, eventually
from tests.deploy.engine import Engine

pytestmark = pytest.mark.timeout(400, func_only=True)
SHUT = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module")
def container(engine: Engine, image: str) -> Iterator[tuple[str, int]]:
    """Its id, and the port of this host that leads to it."""
    port = free_port()
    made = engine(
        "run", "--detach", "--shm-size", "256m", "--publish", f"{LOOPBACK}:{port}:8000", *SHUT, image
    )
    yield made, port
    engine("rm", "--force", "--volumes", made)


def test_a_mission_with_a_model_runs_in_it_and_it_ends_when_it_is_asked_to(
    engine: Engine, container: tuple[str, int], tmp_path: Path
) -> None:
    made, port = container

    def health() -> str:
        return engine("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", made)

    assert eventually(lambda: health() != "running starting", 180)
    assert health() == "running healthy", engine.run("logs", "--tail", "20", made).stdout
    assert httpx.get(f"http://{LOOPBACK}:{port}/readyz", timeout=10).json()["ready"]
    key = engine("exec", made, "cat", "/var/lib/chimera/api.key")
    shell = Shell(tmp_path, {**clean(), "CHIMERA_URL": f"http://{LOOPBACK}:{port}", "CHIMERA_API_KEY": key})
    file = shell.mission(agent="llm", inputs=["Hello."], options={"prompt": "{input}", "max_tokens": 8})
    mission = shell("run", file, "-o", "json").ok().lines[-1]["mission"]
    assert mission["counts"]["ACCEPTED"] == 1
    assert mission["spent_microusd"] > 0

    engine("stop", "--time", "60", made)
    assert engine("inspect", "--format", "{{.State.ExitCode}}", made) == "0"
    said = engine.run("logs", made)
    lines = [*said.stdout.splitlines(), *said.stderr.splitlines()]
    assert lines
    for line in lines:
        LogRecord.model_validate_json(line)
