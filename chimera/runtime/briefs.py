"""Briefs: what a mission says about its tasks, kept while its state_version stands."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chimera.core.mission import Stage
from chimera.core.task import Priority
from chimera.store.missions import MissionStore

KEPT = 256


@dataclass(frozen=True, slots=True)
class Brief:
    """A mission under one state_version."""

    mission_id: str
    state_version: int
    goal: str
    context: dict[str, Any]
    priority: Priority
    task_timeout_s: float | None
    deadline_us: int | None
    stages: Mapping[str, Stage]


class Briefs:
    """The last few missions' briefs."""

    def __init__(self, missions: MissionStore) -> None:
        self._missions = missions
        self._kept: OrderedDict[tuple[str, int], Brief] = OrderedDict()

    async def get(self, mission_id: str, state_version: int) -> Brief:
        """The brief; its version is newer than asked for when the mission has moved on since."""
        key = (mission_id, state_version)
        if key not in self._kept:
            mission = await self._missions.get(mission_id)
            self._kept[key] = Brief(
                mission_id=mission_id,
                state_version=mission.state.version,
                goal=mission.state.goal,
                context=mission.state.context,
                priority=mission.spec.priority,
                task_timeout_s=mission.spec.task_timeout_s,
                deadline_us=mission.deadline_us,
                stages=mission.spec.stages,
            )
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
