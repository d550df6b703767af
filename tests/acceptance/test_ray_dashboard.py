"""Ray's own dashboard shows the fleet's health: a browser finds workers, deployments and missions there."""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from chimera.core.views import WorkerView
from chimera.serving.local.process import ProcessId
from tests.acceptance.conftest import SLOTS, LiveFleet, eventually
from tests.acceptance.test_jobs import Jobs
from tests.e2e.conftest import CHROMIUM, FLAGS, SHOTS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.e2e,
    pytest.mark.timeout(420),
]
PATIENT_MS = 60_000
"""Ray's agents tell its dashboard every few seconds; on two busy cores they are late."""


@pytest.fixture
def page(fleet: LiveFleet) -> Iterator[Page]:
    """Ray's dashboard, opened as a person does: with the token that `chimera status` names."""
    assert "asks for the token in" in fleet("status").ok().out
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        opened = browser.new_page(viewport={"width": 1_600, "height": 1_000})
        opened.set_default_timeout(PATIENT_MS)
        expect.set_options(timeout=PATIENT_MS)
        opened.goto(fleet.record.dashboard_url)
        asked = opened.get_by_role("dialog")
        asked.locator("input").fill(fleet.record.ray_token_file.read_text("utf-8").strip())
        asked.get_by_role("button", name=re.compile("submit|save|authenticate", re.IGNORECASE)).click()
        expect(asked).to_have_count(0)
        yield opened
        browser.close()


@pytest.fixture
def busy(fleet: LiveFleet) -> Iterator[list[WorkerView]]:
    """Two workers with as much to do as they can, for minutes."""
    mission_id = fleet.submit(agent="square", inputs=list(range(6 * SLOTS)), options={"rest_s": 120})

    def full() -> bool:
        counts = [one.busy for one in fleet.view().workers if one.busy]
        return len(counts) == 2 and counts[0] == counts[1]

    assert eventually(full, 120), fleet.view()
    yield [one for one in fleet.view().workers if one.busy]
    fleet("mission", "cancel", mission_id).ok()


def at(page: Page, fleet: LiveFleet, place: str) -> None:
    page.goto(f"{fleet.record.dashboard_url}/#/{place}")


def shot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def row(page: Page, *texts: str) -> Locator:
    """The row of a table that has all of these."""
    found = page.get_by_role("row")
    for text in texts:
        found = found.filter(has_text=text)
    return found


def test_workers_are_found_with_tenant_and_role_and_a_killed_one_is_seen_dead(
    fleet: LiveFleet, page: Page, busy: list[WorkerView]
) -> None:
    at(page, fleet, "actors")
    assert any(not worker.worker.startswith("spare") for worker in busy)
    for worker in busy:
        name = (
            f"spare//{worker.worker}"
            if worker.worker.startswith("spare")
            else f"worker/local/{worker.worker}"
        )
        said = "spare" if worker.worker.startswith("spare") else "worker of local"
        expect(row(page, name, f"{said}, {worker.worker}, {SLOTS} slots", "ALIVE")).to_have_count(1)
    expect(row(page, "GovernorActor", "governor", "ALIVE")).to_have_count(1)
    shot(page, "ray-actors")

    at(page, fleet, "cluster")
    for worker in busy:  # a single node's processes are shown at once
        expect(page.get_by_text(f"ray::WorkerActor local {worker.busy}/{SLOTS} busy").first).to_be_visible()
    shot(page, "ray-cluster")

    victim = busy[0]
    at(page, fleet, "actors")
    pid = (
        row(page, victim.worker, "ALIVE")
        .get_by_role("cell")
        .filter(has_text=re.compile(r"^[1-9]\d{2,}$"))
        .first
    )
    process = ProcessId.of(int(pid.inner_text()))
    actor = row(page, victim.worker, "ALIVE").get_by_role("link").first.inner_text()
    assert process is not None
    assert "ray::WorkerActor" in process.command_line()[0]
    assert process.send(signal.SIGKILL)
    # The list shows ten at a time, and those that died before are among them: so on the page of this one.
    at(page, fleet, f"actors/{actor}")
    expect(page.get_by_text(victim.worker).first).to_be_visible()
    expect(page.get_by_text("DEAD").first).to_be_visible()
    shot(page, "ray-actor-dead")


def test_the_deployments_are_found_healthy(fleet: LiveFleet, page: Page) -> None:
    at(page, fleet, "serve")
    for name in ("Gateway", "Judge", "Orchestrator"):
        expect(row(page, name, "HEALTHY").first).to_be_visible()
    shot(page, "ray-serve")


def test_a_job_is_found_by_its_mission(fleet: LiveFleet, page: Page) -> None:
    jobs = Jobs(fleet)
    fleet.mission("numbers.json", agent="square", inputs=[2, 3])
    job = f"job-{uuid.uuid4().hex[:8]}"
    jobs.submit("numbers.json", job=job).ok()
    mission_id = jobs.mission(job)
    at(page, fleet, "jobs")
    expect(row(page, mission_id, job, "SUCCEEDED")).to_have_count(1)
    shot(page, "ray-jobs")
    at(page, fleet, f"jobs/{job}")
    page.get_by_text("User-provided metadata").first.scroll_into_view_if_needed()
    expect(page.get_by_text(mission_id).first).to_be_visible()
    shot(page, "ray-job")
    assert f'"mission": "{mission_id}"' in jobs.shown(job)
