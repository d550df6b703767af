"""A mission as a Ray job, through the fleet's real Jobs server."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.conftest import BIN, Done, LiveFleet, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]


class Jobs:
    """`ray job` against the fleet, from a directory that goes along as the working directory."""

    def __init__(self, fleet: LiveFleet) -> None:
        self._fleet = fleet.given(**fleet.record.ray_environment())
        self._record = fleet.record

    def submit(self, *words: str, job: str = "", wait: bool = True) -> Done:
        job = job or f"job-{uuid.uuid4().hex[:8]}"
        flags = [] if wait else ["--no-wait"]
        return self._fleet.command(
            BIN / "ray",
            "job",
            "submit",
            "--submission-id",
            job,
            "--working-dir",
            ".",
            *flags,
            "--",
            "python",
            "-m",
            "chimera.mission",
            *words,
            timeout_s=240,
        )

    def stop(self, job: str) -> None:
        self._fleet.command(BIN / "ray", "job", "stop", job).ok()

    def log(self, job: str) -> str:
        """What the job has written so far."""
        return str(self._get(f"{job}/logs").json()["logs"])

    def shown(self, job: str) -> str:
        """All that the Jobs server tells of a job."""
        return self._get(job).text

    def mission(self, job: str) -> str:
        """The mission that the job has submitted."""
        found: list[str] = []

        def told() -> list[str]:
            found[:] = re.findall(r"^mission (\S+): \d+ tasks$", self.log(job), re.MULTILINE)
            return found

        assert eventually(told), self.log(job)
        return found[0]

    def _get(self, path: str) -> httpx.Response:
        token = self._record.ray_token_file.read_text(encoding="utf-8")
        return httpx.get(
            f"{self._record.dashboard_url}/api/jobs/{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        ).raise_for_status()


@pytest.fixture
def jobs(fleet: LiveFleet) -> Jobs:
    return Jobs(fleet)


def last_line_of_the_job(text: str) -> str:
    """The last line that is ours: Ray's client writes a banner after it."""
    return [line for line in text.splitlines() if line.startswith("chimera: ")][-1]


def test_a_job_runs_a_mission_whose_key_no_one_wrote_down(fleet: LiveFleet, jobs: Jobs) -> None:
    fleet.mission("good.json", agent="square", inputs={"files": ["*.jsonl"], "format": "jsonl"})
    fleet.write("numbers.jsonl", "2\n3\n")
    done = jobs.submit("good.json", job="good").ok()
    assert '"square": 9' in done.out
    assert last_line_of_the_job(done.out) == "chimera: exit code 0 (completed)"
    assert jobs.log("good").splitlines()[-1] == "chimera: exit code 0 (completed)"
    assert fleet.record.api_key() not in jobs.shown("good") + jobs.log("good")


def test_a_job_whose_mission_fails_fails_and_says_how(fleet: LiveFleet, jobs: Jobs) -> None:
    fleet.mission("bad.json", agent="broken", inputs=["x"])
    done = jobs.submit("bad.json")
    assert done.code == 1
    assert last_line_of_the_job(done.out) == "chimera: exit code 1 (failed)"


def test_stopping_a_job_cancels_its_mission_unless_detached(fleet: LiveFleet, jobs: Jobs) -> None:
    fleet.mission("long.json", agent="square", inputs=[1], options={"rest_s": 100})
    flags: dict[str, tuple[str, ...]] = {"held": (), "left": ("--detach",)}

    def stopped(job: str) -> str:
        """Its mission, once the job was under way and was stopped."""
        jobs.submit("long.json", *flags[job], job=job, wait=False).ok()
        mission = jobs.mission(job)
        jobs.stop(job)
        return mission

    with ThreadPoolExecutor() as side_by_side:  # most of the time Ray's own commands start
        missions = dict(zip(flags, side_by_side.map(stopped, flags), strict=True))
    for job in flags:
        assert jobs.log(job).splitlines()[-1] == "chimera: exit code 130 (interrupted)"
    found = {
        job: fleet("mission", "get", mission_id, "-o", "json").ok().document["status"]
        for job, mission_id in missions.items()
    }
    assert found == {"held": "CANCELLED", "left": "RUNNING"}
    fleet("mission", "cancel", missions["left"]).ok()
