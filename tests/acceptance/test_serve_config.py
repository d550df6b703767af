"""`serve_config.yaml` on a running cluster: the file's shape is what runs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import yaml

from tests.acceptance.conftest import BIN, ROOT, LiveFleet, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]
CONFIG = ROOT / "serve_config.yaml"


def application(fleet: LiveFleet) -> dict[str, Any]:
    """What Ray's own API tells of the application."""
    token = fleet.record.ray_token_file.read_text(encoding="utf-8")
    answer = httpx.get(
        f"{fleet.record.dashboard_url}/api/serve/applications/",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    found: dict[str, Any] = answer.raise_for_status().json()["applications"]["chimera"]
    return found


def test_serve_deploy_brings_up_the_files_shape_and_the_hub_works_on(fleet: LiveFleet) -> None:
    mission_id = fleet.submit(agent="square", inputs=[5], options={"rest_s": 15})
    before = fleet.actors("ray::ServeReplica:chimera:")
    serve = fleet.given(**fleet.record.ray_environment(), RAY_DASHBOARD_ADDRESS=fleet.record.dashboard_url)
    serve.command(BIN / "serve", "deploy", CONFIG).ok()
    assert eventually(
        lambda: (
            application(fleet)["status"] == "RUNNING"
            and not before & fleet.actors("ray::ServeReplica:chimera:")
        ),
        seconds=120,
    ), application(fleet)

    wanted = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["applications"][0]
    running = application(fleet)["deployments"]
    assert set(running) == {deployment["name"] for deployment in wanted["deployments"]}
    for deployment in wanted["deployments"]:
        config = running[deployment["name"]]["deployment_config"]
        assert {name: config[name] for name in deployment if name != "ray_actor_options"} == {
            name: value for name, value in deployment.items() if name != "ray_actor_options"
        }
        assert config["ray_actor_options"]["num_cpus"] == deployment["ray_actor_options"]["num_cpus"]
    assert "RUNNING" in serve.command(BIN / "serve", "status").ok().out

    # The mission that was under way did not notice, and a new one works.
    assert eventually(fleet.ready)
    fleet("mission", "watch", mission_id).ok()
    fleet("run", fleet.mission(agent="pay", inputs=["x"])).ok()
