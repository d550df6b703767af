"""A task's way through the store: submit → plan → claim → hand in → judge → settled."""

from __future__ import annotations

from chimera.core.mission import MissionStatus
from chimera.runtime.base import Base
from tests.store import drive


async def test_a_mission_runs_to_completion(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await drive.finish(stores, 3)
    assert await stores.missions.settle("m1", term=drive.TERM, by="test") is MissionStatus.COMPLETED
    mission = await stores.missions.get("m1")
    assert mission.counts["ACCEPTED"] == 3
    assert sum(mission.counts.values()) == 3
    assert await stores.tasks.results(["m1.0", "m1.1"]) == {"m1.0": "done", "m1.1": "done"}


async def test_every_transition_is_recorded_without_a_gap(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    await drive.finish(stores, 3)
    await stores.missions.settle("m1", term=drive.TERM, by="test")
    events = [event async for _, event in stores.recorder.read(mission_id="m1")]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    kinds = [event.kind for event in events]
    assert kinds[0] == "mission.submitted"
    assert kinds[-1] == "mission.completed"
    for kind in ("task.claimed", "task.submitted", "review.claimed", "task.accepted"):
        assert kinds.count(kind) == 3, kind
