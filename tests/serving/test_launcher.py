"""The files for Ray's cluster launcher: valid by Ray's own schema, and in the words that the code uses.

Nothing is launched: there is no cloud here. What Ray makes of the files before it calls one is what it makes
of them everywhere.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from chimera.serving.backend import PLACE
from chimera.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
CLOUD, OWN = ROOT / "ray-cluster.yaml", ROOT / "ray-cluster.on-premise.yaml"
each_file = pytest.mark.parametrize("path", [CLOUD, OWN], ids=["cloud", "own"])


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def started(commands: list[str]) -> list[str]:
    """The words of the one command that starts Ray, its environment before it."""
    (command,) = [command for command in commands if "ray start" in command]
    return shlex.split(command)


def offered(words: list[str]) -> dict[str, int]:
    """The resources that a `ray start` names."""
    (given,) = [word.removeprefix("--resources=") for word in words if word.startswith("--resources=")]
    resources: dict[str, int] = json.loads(given)
    return resources


@each_file
def test_ray_takes_the_file(path: Path) -> None:
    prepared = prepare_config(read(path))
    validate_config(prepared)
    assert prepared["docker"]["image"]


@each_file
def test_ray_would_refuse_what_it_does_not_know(path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(read(path) | {"idle_timeout": 2}))


def test_machines_of_a_cloud_come_from_zero_and_offer_what_a_worker_asks_for() -> None:
    config = read(CLOUD)
    types = config["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != config["head_node_type"]}
    for kind in workers.values():
        assert kind["min_workers"] == 0
        assert kind["resources"] == {"CPU": 0, PLACE["worker"]: 1}
    assert sum(kind["max_workers"] for kind in workers.values()) == config["max_workers"]
    head = types[config["head_node_type"]]["resources"]
    assert head[PLACE["spare"]] >= 1
    assert PLACE["worker"] not in head
    assert head["hub"] == 1


def test_ones_own_machines_offer_the_same() -> None:
    config = read(OWN)
    worker = started(config["worker_start_ray_commands"])
    assert offered(worker) == {PLACE["worker"]: 1}
    assert "--num-cpus=0" in worker
    assert offered(started(config["head_start_ray_commands"])) == {"hub": 1, PLACE["spare"]: 1}
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])


@each_file
def test_the_heads_port_is_not_that_of_redis_and_workers_know_it(path: Path) -> None:
    config = read(path)
    (port,) = [
        word.partition("=")[2]
        for word in started(config["head_start_ray_commands"])
        if word.startswith("--port=")
    ]
    assert port != "6379"
    assert f"--address=$RAY_HEAD_IP:{port}" in started(config["worker_start_ray_commands"])


@each_file
def test_nothing_of_ray_is_started_without_its_token(path: Path) -> None:
    config = read(path)
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        if "ray start" in command or "serve deploy" in command:
            before = command.partition("set +a;")[0]
            assert "RAY_AUTH_MODE=token; RAY_AUTH_TOKEN_PATH=$HOME/ray-token;" in before
    assert config["file_mounts"]["~/ray-token"] == "ray-token"


@each_file
def test_the_hubs_settings_go_to_the_head_alone(path: Path) -> None:
    """What `file_mounts` names is copied to every machine: a worker's has Ray's token, no other secret."""
    config = read(path)
    assert config["file_mounts"].keys() == {"~/ray-token", "~/serve_config.yaml"}
    assert not {"cluster_synced_files", "setup_commands", "initialization_commands"} & config.keys()
    assert not [command for command in config["worker_start_ray_commands"] if "chimera.env" in command]


def on_the_head(path: Path, home: Path) -> tuple[str, list[str]]:
    """What the file's commands say on a head with that home, and what they call of Ray: stand-ins."""
    programs, called = home / "bin", home / "called"
    programs.mkdir()
    called.touch()
    for program in ("ray", "serve"):
        stand_in = f'#!/bin/sh\necho "{program} $1 $CHIMERA_ENCLOSURE $CHIMERA_REDIS_URL" >>"{called}"\n'
        (programs / program).write_text(stand_in, encoding="utf-8")
        (programs / program).chmod(0o755)
    said = ""
    for command in read(path)["head_start_ray_commands"]:
        done = subprocess.run(
            ["bash", "-c", f"({command})"],  # as Ray's updater does
            env={"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        said += done.stdout
    return said, called.read_text(encoding="utf-8").splitlines()


@each_file
def test_a_head_without_its_settings_starts_nothing_and_says_how_they_come(
    path: Path, tmp_path: Path
) -> None:
    said, called = on_the_head(path, tmp_path)
    assert [line.split()[:2] for line in called] == [["ray", "stop"]]
    assert f"ray rsync-up {path.name} chimera.env '~/chimera.env'; then ray up {path.name}" in said


@each_file
def test_a_head_with_its_settings_starts_ray_and_the_hub_with_agents_enclosed(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "chimera.env").write_text("CHIMERA_REDIS_URL=redis://there\n", encoding="utf-8")
    said, called = on_the_head(path, tmp_path)
    assert (said, called[1:]) == (
        "",
        ["ray start require redis://there", "serve deploy require redis://there"],
    )


def test_every_kind_of_machine_is_in_a_group_that_ray_does_not_make() -> None:
    """One that Ray makes lets everybody in by ssh, beside whatever its `IpPermissions` say."""
    config = read(CLOUD)
    rays = aws(
        *("_configure_security_group", "_create_default_inbound_rules"),
        *("_create_default_intracluster_inbound_rules", "_create_default_ssh_inbound_rules"),
    )
    rules = rays["_create_default_inbound_rules"]({"sg-1"}, [])
    assert {"CidrIp": "0.0.0.0/0"} in [one for rule in rules for one in rule.get("IpRanges", ())]
    assert rays["_configure_security_group"](config) is config
    for kind in config["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"] == ["SG-ID"]
    del config["available_node_types"]["swarm"]["node_config"]["SecurityGroupIds"]
    with pytest.raises(NameError, match="_upsert_security_groups"):  # here Ray would make one
        rays["_configure_security_group"](config)


def aws(*names: str) -> dict[str, Callable[..., Any]]:
    """Functions of Ray's provider for AWS, from its source: the module wants Amazon's library."""
    source = Path(ray.autoscaler.__path__[0]) / "_private/aws/config.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    tree.body = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name in names]
    found: dict[str, Any] = {"itertools": itertools, "_set_config_info": lambda **_: None}
    exec(compile(tree, source, "exec"), found)
    return found


@each_file
def test_what_is_secret_is_kept_out_of_the_repository(path: Path) -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert "chimera.env" in ignored
    for source in read(path)["file_mounts"].values():
        assert (ROOT / source).is_file() != (source in ignored), source


def test_the_variables_that_the_file_names_are_settings() -> None:
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", CLOUD.read_text(encoding="utf-8")))
    assert named <= {name.upper() for name in Settings.model_fields}
    assert {"REDIS_URL", "BLOB_URL", "API_KEY"} <= named


def test_both_files_start_the_same_containers() -> None:
    cloud, own = read(CLOUD), read(OWN)
    assert cloud["docker"] == own["docker"]
    assert cloud["file_mounts"] == own["file_mounts"]
    assert cloud["head_start_ray_commands"][-1] == own["head_start_ray_commands"][-1]
