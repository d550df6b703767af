"""One engine, one image, one stack for `make test-deploy`; without `--engine` only what needs none is run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import engine as engines
from tests.deploy import stack as stacks
from tests.deploy import standins
from tests.deploy.engine import LOGS, ROOT, Engine, say
from tests.deploy.stack import Stack

NEED_AN_ENGINE = ("test_image.py", "test_stack.py", "test_alone.py")
IMAGE = "chimera:test-deploy"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", action="store_true", help="test the containers too, on a Docker engine")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Those that need an engine are not even looked at without one: no run of theirs is a skip."""
    wanted = config.getoption("--engine", default=False)
    return True if collection_path.name in NEED_AN_ENGINE and not wanted else None


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine that answers."""
    with engines.running() as found:
        yield found


@pytest.fixture(scope="session")
def image(engine: Engine) -> Iterator[str]:
    """The image, built anew of docker/Dockerfile as it stands."""
    arguments = standins.prepare(engine)
    say("the image is built")
    began = time.monotonic()
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "build.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [
                *(engine.client, "build", "--progress", "plain", "--file", str(ROOT / "docker/Dockerfile")),
                *("--tag", IMAGE, *arguments, str(ROOT)),
            ],
            env=engine.environ(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, "\n".join((LOGS / "build.log").read_text("utf-8").splitlines()[-30:])
    size = int(engine("image", "inspect", "--format", "{{.Size}}", IMAGE))
    say(f"built in {time.monotonic() - began:.0f} s: {size / 1e6:,.0f} MB")
    yield IMAGE
    if not os.environ.get("ENGINE_DIR"):
        engine("image", "rm", "--force", IMAGE)


@pytest.fixture(scope="session")
def stack(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The compose stack with one worker; a test that changes it puts it back."""
    with stacks.running(engine, image, tmp_path_factory.mktemp("stack")) as found:
        yield found


@pytest.fixture(autouse=True)
def _told(request: pytest.FixtureRequest) -> None:
    if "engine" in request.fixturenames:
        say(request.node.name)
