"""What the compose file says of every service; no engine is needed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from chimera.core.kube.quantity import MI
from chimera.core.kube.sizing import NODE_BYTES
from chimera.settings import PREFIX, load
from tests.deploy import standins
from tests.documented import documents, scripts, split

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker/compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
MADE = re.compile(r"\$\{([A-Z_]+):\?run docker/secrets docker/\.env\}")
ASKED = re.compile(r"(?<!\$)\$\{(\w+)")
"""What the file asks the shell, or docker/.env, for."""
IMAGE = "${STACK_IMAGE:-chimera:dev}"


def secrets(folder: Path) -> dict[str, str]:
    """What docker/secrets writes."""
    file = folder / uuid4().hex
    subprocess.run([ROOT / "docker/secrets", file], check=True, timeout=30)
    return dict(line.split("=", 1) for line in file.read_text("utf-8").splitlines())


@each_service
def test_a_container_has_no_rights_and_bounds(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode"} & service.keys()
    assert {"cpus", "mem_limit", "pids_limit", "stop_grace_period"} <= service.keys()
    assert service["restart"] == "unless-stopped"
    assert service["networks"] == ["fleet"]


def test_docker_asks_every_service_how_it_is() -> None:
    """The image's own question is right for each role (chimera/serving/node/health.py): none has another."""
    ours = {name for name, service in SERVICES.items() if service["image"] == IMAGE}
    assert ours == SERVICES.keys() - {"redis"}
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == {"redis"}


def test_one_service_builds_and_no_other_asks_a_registry_for_what_it_makes() -> None:
    """Several that build one tag at a time fail on engines that keep images in containerd."""
    ours = {name: service for name, service in SERVICES.items() if service["image"] == IMAGE}
    assert [name for name, service in SERVICES.items() if "build" in service] == ["chimera-core"]
    assert {name: service.get("pull_policy") for name, service in ours.items()} == {
        "chimera-core": None,
        "chimera-worker": "never",
        "chimera-judge": "never",
        "chimera-model": "never",
    }


def test_how_many_there_are_of_a_service_outlives_the_next_up() -> None:
    assert SERVICES["chimera-worker"]["scale"] == "${STACK_WORKERS:-1}"
    assert SERVICES["chimera-model"]["scale"] == "${STACK_EMBEDDED_MODELS:-1}"


def test_what_a_client_is_told_by_export_changes_nothing_of_the_stack() -> None:
    """Compose takes a variable of the shell before the one in docker/.env."""
    exported = {
        word.partition("=")[0]
        for page in documents()
        for script in scripts(page)
        for words in split(script)
        if words[0] == "export"
        for word in words[1:]
    }
    asked = set(ASKED.findall(TEXT))
    assert {"CHIMERA_API_KEY", "CHIMERA_MODEL_URL"} <= exported
    assert asked & exported == set()
    assert {name for name in asked if not name.startswith("STACK_")} == set()


def test_a_service_mounts_nothing_of_the_checkout() -> None:
    """Its files may be readable to their owner alone, and the engine may be on another machine."""
    mounts = [one for service in SERVICES.values() for one in service.get("volumes", ())]
    assert mounts == ["blobs:/var/lib/chimera/blobs", "redis:/data"]


def test_agents_are_enclosed_or_do_not_run_unless_told_otherwise() -> None:
    """The container's other processes are the same user's, and one has the nodes' token."""
    assert SERVICES["chimera-core"]["environment"]["CHIMERA_ENCLOSURE"] == "${STACK_ENCLOSURE:-require}"


def test_an_agent_meets_its_own_limit_of_memory_before_the_kernel_meets_the_containers() -> None:
    """The kernel ends the whole container, with everybody's attempts. The hub hands workers the limit."""
    told = int(SERVICES["chimera-core"]["environment"]["CHIMERA_WORKER_MEMORY_MB"])
    assert SERVICES["chimera-worker"]["mem_limit"] == f"{told + NODE_BYTES // MI}m"


def test_the_api_alone_is_published_and_unless_told_otherwise_to_the_host_alone() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "chimera-core": ["${STACK_PUBLISH:-127.0.0.1:8000}:8000"]
    }


def test_every_secret_must_be_told_and_all_are_made(tmp_path: Path) -> None:
    made, named = secrets(tmp_path), set(MADE.findall(TEXT))
    assert named == made.keys()
    assert made != secrets(tmp_path)
    assert all(len(value) >= 64 for value in made.values())
    # None has a default, nor is it named anywhere but where it must be there.
    assert {
        name for name in ASKED.findall(TEXT) if re.search("SECRET|PASSWORD|TOKEN|KEY", name)
    } == made.keys()


@each_service
def test_what_a_service_is_told_are_settings(
    service: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {name: MADE.sub("x" * 64, str(value)) for name, value in service["environment"].items()}
    for name, value in told.items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value))
    load()
    assert all(name.startswith(PREFIX) for name in told)


def test_only_the_hub_and_redis_are_told_the_operators_login() -> None:
    who = {name for name, service in SERVICES.items() if "CHIMERA_REDIS_PASSWORD" in service["environment"]}
    assert who == {"chimera-core", "redis"}
    assert [name for name in SERVICES["chimera-worker"]["environment"] if "REDIS" in name] == []


def test_stand_ins_have_the_names_of_what_they_stand_in_for() -> None:
    assert f"ARG PYTHON_IMAGE={standins.PYTHON}\n" in (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
    assert SERVICES["redis"]["image"] == f"${{STACK_REDIS_IMAGE:-{standins.REDIS}}}"


def test_what_compose_runs_can_be_run() -> None:
    assert all(os.access(ROOT / name, os.X_OK) for name in ("docker/secrets", "bin/compose", "bin/engine"))
