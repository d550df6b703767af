"""`serve_config.yaml` and `chimera.serving.app.build` state one shape, so that either may start a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

# Ray Serve's own module declares a field in a way that pydantic deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
ROOT = Path(__file__).parents[2]
CHANGEABLE = ("num_replicas", "max_ongoing_requests", "health_check_period_s", "health_check_timeout_s")
"""Options that `serve deploy` takes from the file alone."""


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def coded() -> dict[str, dict[str, Any]]:
    """The shape of the code's deployments, by name; nothing of Ray is started."""
    from ray.serve._private.build_app import build_app

    from chimera.serving.app import build

    built = build_app(build({}), name="chimera")
    assert built.ingress_deployment_name == "Gateway"
    return {
        deployment.name: {
            "ray_actor_options": deployment.ray_actor_options,
            **{name: getattr(deployment._deployment_config, name) for name in CHANGEABLE},
        }
        for deployment in built.deployments
    }


def test_the_file_names_the_application_that_a_local_fleet_deploys(config: dict[str, Any]) -> None:
    from chimera.serving.deploy import LOGGING, NAME
    from chimera.serving.local.supervisor import HUB

    (application,) = config["applications"]
    named = (application["name"], application["import_path"], application["route_prefix"])
    assert named == (NAME, HUB, "/")
    assert config["logging_config"] == LOGGING


def test_the_file_and_the_code_give_each_deployment_the_same_shape(
    config: dict[str, Any], coded: dict[str, dict[str, Any]]
) -> None:
    default = {"max_ongoing_requests": 5}  # Serve's own, where the file is silent
    written = {
        shape["name"]: default | {name: value for name, value in shape.items() if name != "name"}
        for shape in config["applications"][0]["deployments"]
    }
    assert set(coded) == set(written)
    for name, shape in written.items():
        given = {
            option: coded[name]["ray_actor_options"].get(option) for option in shape["ray_actor_options"]
        }
        assert {**coded[name], "ray_actor_options": given} == shape, name
