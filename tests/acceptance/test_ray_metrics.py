"""Ray's own metrics endpoint has missions, agents and spend, as a fleet's leader tells them."""

from __future__ import annotations

import json
import re
import time

import httpx
import pytest

from tests.acceptance.conftest import LiveFleet

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]

WANTED = {
    "ray_chimera_missions_total": 'status="completed"',
    "ray_chimera_tasks_total": 'status="accepted"',
    "ray_chimera_attempts_total": 'outcome="submitted"',
    "ray_chimera_slots": 'state="free"',
    "ray_chimera_workers": "",
    "ray_chimera_settled_microusd": "",
}


def shown(fleet: LiveFleet) -> dict[str, float]:
    """The sum of each wanted figure of the tenant `local`, of all that Ray says where to scrape."""
    found = json.loads((fleet.state.ray_temp / "prom_metrics_service_discovery.json").read_text("utf-8"))
    targets = [target for group in found for target in group["targets"]]
    text = "\n".join(httpx.get(f"http://{target}/metrics", timeout=10).text for target in targets)
    return {
        name: sum(
            float(line.rpartition(" ")[2])
            for line in re.findall(rf"^{name}\{{.*$", text, re.MULTILINE)
            if label in line and 'tenant="local"' in line
        )
        for name, label in WANTED.items()
        if f"{name}{{" in text
    }


def test_rays_endpoint_tells_of_missions_agents_and_spend(fleet: LiveFleet) -> None:
    mission_id = fleet.submit(agent="square", inputs=[3, 4])
    fleet("mission", "watch", mission_id).ok()
    deadline = time.monotonic() + 120
    while set(seen := shown(fleet)) != set(WANTED) or not seen["ray_chimera_tasks_total"]:
        assert time.monotonic() < deadline, seen
        time.sleep(1)  # Ray's agent collects every ten seconds, in a process of its own
    assert seen["ray_chimera_missions_total"] >= 1
    assert seen["ray_chimera_tasks_total"] >= 2
    assert seen["ray_chimera_attempts_total"] >= 2
