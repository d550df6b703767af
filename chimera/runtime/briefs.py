"""Briefs: what a mission says about its tasks, kept while its state_version stands."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chimera.core import trace
from chimera.core.mission import Stage
from chimera.core.task import Priority
from chimera.core.trace import Trace
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
    stages: Mapping[str, Stage]
    trace: Trace
    """Whose spans its attempts and judgements are."""


class Briefs:
    """The last few missions' briefs."""

    def __init__(self, missions: MissionStore) -> None:
        self._missions = missions
        self._kept: OrderedDict[tuple[str, int], Brief] = OrderedDict()
        self._reading: dict[tuple[str, int], asyncio.Lock] = {}

    async def get(self, mission_id: str, state_version: int) -> Brief:
        """The brief; its version is newer than asked for when the mission has moved on since."""
        key = (mission_id, state_version)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        # The tasks of one claim ask together: one of them reads.
        async with self._reading.setdefault(key, asyncio.Lock()):
            if key not in self._kept:
                self._kept[key] = await self._read(mission_id)
        self._reading.pop(key, None)
        brief = self._kept[key]
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return brief

    async def _read(self, mission_id: str) -> Brief:
        spec, state = await self._missions.document(mission_id)
        return Brief(
            mission_id=mission_id,
            state_version=state.version,
            goal=state.goal,
            context=state.context,
            priority=spec.priority,
            task_timeout_s=spec.task_timeout_s,
            stages=spec.stages,
            trace=trace.of_mission(self._missions.keys.tenant, mission_id, state.traceparent),
        )
