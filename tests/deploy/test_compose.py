"""What the compose file says of every service; no engine is needed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chimera.core.kube.quantity import MI
from chimera.core.kube.sizing import NODE_BYTES
from chimera.settings import PREFIX, load
from tests.deploy import standins

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker/compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
MADE = re.compile(r"\$\{([A-Z_]+):\?run docker/secrets >docker/\.env\}")


def secrets() -> dict[str, str]:
    """What docker/secrets prints."""
    made = subprocess.run([ROOT / "docker/secrets"], check=True, capture_output=True, text=True, timeout=30)
    return dict(line.split("=", 1) for line in made.stdout.splitlines())


@each_service
def test_a_container_has_no_rights_and_bounds(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode"} & service.keys()
    assert {"cpus", "mem_limit", "pids_limit", "stop_grace_period"} <= service.keys()
    assert service["restart"] == "unless-stopped"
    assert service["networks"] == ["fleet"]


def test_an_agent_meets_its_own_limit_of_memory_before_the_kernel_meets_the_containers() -> None:
    """The kernel ends the whole container, with everybody's attempts. The hub hands workers the limit."""
    told = int(SERVICES["chimera-core"]["environment"]["CHIMERA_WORKER_MEMORY_MB"])
    assert SERVICES["chimera-worker"]["mem_limit"] == f"{told + NODE_BYTES // MI}m"


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "chimera-core"])
def test_docker_asks_every_service_how_it_is(name: str) -> None:
    """That of the hub is the image's own."""
    assert "test" in SERVICES[name]["healthcheck"]


def test_the_api_alone_is_published_and_unless_told_otherwise_to_the_host_alone() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "chimera-core": ["${PUBLISH:-127.0.0.1:8000}:8000"]
    }


def test_every_secret_must_be_told_and_all_are_made() -> None:
    made, named = secrets(), set(MADE.findall(TEXT))
    assert named == made.keys()
    assert made != secrets()
    assert all(len(value) >= 64 for value in made.values())
    # None has a default, nor is it named anywhere but where it must be there.
    assert set(re.findall(r"\$\{(\w*(?:SECRET|PASSWORD|TOKEN|KEY))\b", TEXT)) == made.keys()


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
    assert SERVICES["redis"]["image"] == f"${{CHIMERA_REDIS_IMAGE:-{standins.REDIS}}}"


def test_what_compose_runs_can_be_run() -> None:
    assert all(os.access(ROOT / name, os.X_OK) for name in ("docker/secrets", "bin/compose", "bin/engine"))
