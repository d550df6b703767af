"""Ray's own KubeRay autoscaler against an emulated API server, whose pods are real Ray nodes at real work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chimera.core.task import TaskStatus
from chimera.core.views import MissionView
from tests.acceptance.conftest import BIN, eventually
from tests.kuberay.cluster import MOST, shipped, workers
from tests.kuberay.emulator import Emulator
from tests.kuberay.hub import DEPLOY_S, Hub, hub_on_ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

AGENTS = Path(__file__).parents[1] / "serving/local/sleeper.py"
COMES_S, GOES_S = 60.0, 60.0


@dataclass(frozen=True)
class Emulated:
    """A hub on a RayCluster, and the emulator around it."""

    hub: Hub
    emulator: Emulator

    def pods(self) -> list[str]:
        return self.emulator.objects.workers()

    def until(self, pods: int, seconds: float = COMES_S) -> bool:
        """Whether there come to be so many worker pods, and none that is on its way out."""
        objects, running = self.emulator.objects, self.emulator.operator.processes
        return objects.wait(lambda: len(self.pods()) == len(running) == pods, seconds)

    def submit(self, *seconds: float) -> str:
        file = self.hub.shell.mission(agent="sleeper", inputs=list(seconds))
        return self.hub.shell("mission", "submit", file).ok().out.strip()

    def ended(self, mission_id: str) -> MissionView:
        shown = self.hub.shell("mission", "watch", mission_id, "-o", "json", timeout_s=120).ok()
        return MissionView.model_validate(shown.lines[-1]["mission"])

    def view(self, mission_id: str) -> MissionView:
        return MissionView.model_validate(self.hub.get(f"/v1/missions/{mission_id}"))

    def log(self) -> str:
        return self.emulator.log.read_text(encoding="utf-8")[-4_000:]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    """Workers of one slot, one a pod: two tasks at once want two pods."""
    directory = tmp_path_factory.mktemp("kuberay")
    cluster = shipped()
    with (
        hub_on_ray(
            directory,
            cluster,
            agents=str(AGENTS),
            slots=1,
            express_slots=0,
            spares=0,
            max_workers=MOST,
            idle_s=1.0,
        ) as hub,
        Emulator(
            cluster,
            directory / "emulator",
            address=hub.address,
            ray=BIN / "ray",
            env=hub.env,
        ) as emulator,
    ):
        assert eventually(hub.ready, DEPLOY_S), "the hub was not ready in time"
        yield Emulated(hub, emulator)


def test_pods_come_with_missions_and_go_when_they_are_idle(emulated: Emulated) -> None:
    objects = emulated.emulator.objects
    assert emulated.pods() == [], "it begins with none"
    mission_id = emulated.submit(20.0, 1.0)
    assert objects.wait(lambda: len(emulated.pods()) == 2, COMES_S), emulated.log()
    assert emulated.until(1, GOES_S), "the one whose task was short goes"
    (kept,), (told,) = emulated.pods(), objects.told_to_delete()
    assert told != kept
    mission = emulated.ended(mission_id)
    assert (mission.accepted, mission.tallies) == (2, {}), "nothing ran twice: the busy pod was let be"
    assert emulated.until(0, GOES_S), emulated.log()
    assert objects.told_to_delete() == [told, kept]
    assert workers(objects.cluster()["spec"])["replicas"] == 0


def test_a_killed_pod_is_replaced_and_its_task_done_on_the_new_one(emulated: Emulated) -> None:
    mission_id = emulated.submit(8.0)
    assert eventually(lambda: emulated.view(mission_id).counts[TaskStatus.PENDING]), emulated.log()
    (first,) = emulated.pods()
    emulated.emulator.operator.kill(first)
    assert emulated.emulator.objects.wait(lambda: set(emulated.pods()) - {first}, COMES_S), emulated.log()
    mission = emulated.ended(mission_id)
    assert (mission.accepted, mission.failed) == (1, 0)
    assert first not in emulated.pods()


def test_a_pod_over_the_quota_is_refused_said_so_and_the_work_done_by_the_others(emulated: Emulated) -> None:
    objects = emulated.emulator.objects
    objects.quota = {"metadata": {"name": "namespace"}, "spec": {"hard": {"limits.cpu": "5"}}}
    mission_id = emulated.submit(4.0, 4.0, 4.0)
    assert objects.wait(lambda: objects.events, COMES_S), emulated.log()
    said = objects.events[-1]["message"]
    assert said.endswith(
        "exceeded quota: namespace, requested: limits.cpu=1, used: limits.cpu=5, limited: limits.cpu=5"
    )
    (condition,) = objects.cluster()["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["message"]) == ("ReplicaFailure", "True", said)
    assert len(emulated.pods()) <= 1
    mission = emulated.ended(mission_id)
    assert (mission.accepted, mission.failed) == (3, 0)
