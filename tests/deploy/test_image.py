"""The image, as it was built."""

from __future__ import annotations

import json
from pathlib import Path

from chimera.telemetry.record import LogRecord
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

# As a kernel without Landlock answers.
NO_LANDLOCK = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["landlock_create_ruleset"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}


def test_docker_build_makes_what_runs_as_a_numbered_user_behind_an_init(engine: Engine, image: str) -> None:
    """`docker build` of docker/Dockerfile as it stands is what the fixture does."""
    (known,) = json.loads(engine("image", "inspect", image))
    assert known["Config"]["User"] == "10001:10001"
    assert known["Config"]["Entrypoint"] == ["tini", "--", "chimera"]


def test_no_process_has_to_compile_what_is_installed(engine: Engine, image: str) -> None:
    """None could keep what it compiles."""
    assert engine("run", "--rm", "--entrypoint", "python", image, "-c", IMPORTS) == ""


def test_on_a_host_without_landlock_the_stacks_hub_says_so_and_how_to_go_on(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(NO_LANDLOCK), encoding="utf-8")
    told = {
        "CHIMERA_ENCLOSURE": "require",
        "CHIMERA_NODE_TOKEN": "t" * 32,
        "CHIMERA_REDIS_URL": "redis://redis:6379/0",
    }
    variables = [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
    as_there = ("run", "--rm", "--security-opt", f"seccomp={profile}", *variables)
    done = engine.run(*as_there, image, "node", "head", check=False)
    assert done.returncode == 2
    record = LogRecord.model_validate_json(done.stdout)
    assert "no Landlock" in record.message
    assert "STACK_ENCLOSURE=auto" in record.message
