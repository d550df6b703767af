"""The image, as it was built."""

from __future__ import annotations

import json

from tests.deploy.engine import Engine

IMPORTS = """
import sys
from pathlib import Path

import chimera.serving.deploy
import ray

from_source = [
    name
    for name, module in sys.modules.items()
    if (file := getattr(module, "__file__", None))
    and file.startswith("/opt/chimera/")
    and file.endswith(".py")
    and not (module.__cached__ and Path(module.__cached__).exists())
]
print(*from_source)
"""


def test_docker_build_makes_what_runs_as_a_numbered_user_behind_an_init(engine: Engine, image: str) -> None:
    """`docker build` of docker/Dockerfile as it stands is what the fixture does."""
    (known,) = json.loads(engine("image", "inspect", image))
    assert known["Config"]["User"] == "10001:10001"
    assert known["Config"]["Entrypoint"] == ["tini", "--", "chimera"]


def test_no_process_has_to_compile_what_is_installed(engine: Engine, image: str) -> None:
    """None could keep what it compiles."""
    assert engine("run", "--rm", "--entrypoint", "python", image, "-c", IMPORTS) == ""
