"""The planner: makes a mission's tasks, a bounded window at a time.

In a store without room it waits: the missions stand where they are, and go on by themselves. So does a large
one whose accepted tasks leave Redis more slowly than they come (`chimera.core.shelving`).
"""

from __future__ import annotations

import structlog

from chimera.core.mission import DagPlan
from chimera.core.plan import next_window
from chimera.core.shelving import planning_waits
from chimera.errors import CorruptRecord, QueueFull
from chimera.runtime.base import Base

log = structlog.get_logger(__name__)

WINDOW = 500
"""Inputs of one script call."""
SHARE = 8
"""A verdict wakes the hub to plan on once one in so many of the window is free. It looks each second, too."""
LEAST = 100
"""So many unfinished tasks a mission may have though its tenant has as many as its quota allows: no mission
of a tenant keeps its others from being planned."""


class Planner:
    """Plans one mission as far as its window allows."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._waiting: set[tuple[str, str]] = set()
        """Missions whose planning waits for room."""

    async def plan(self, tenant: str, mission_id: str, *, term: int, by: str) -> None:
        """Plan until the mission is wholly planned, its window or the store is full, or another plans."""
        while await self.plan_some(tenant, mission_id, term=term, by=by):
            pass

    async def plan_some(self, tenant: str, mission_id: str, *, term: int, by: str) -> bool:
        """Plan one window. True: there may be more to plan at once."""
        try:
            return await self._plan(tenant, mission_id, term=term, by=by)
        except QueueFull as exc:
            if (tenant, mission_id) not in self._waiting:
                log.warning("planner.waits", tenant=tenant, mission_id=mission_id, reason=str(exc))
            self._waiting.add((tenant, mission_id))
            return False

    async def _plan(self, tenant: str, mission_id: str, *, term: int, by: str) -> bool:
        missions = self._base.of(tenant).missions
        settings = self._base.settings
        mission = await missions.get(mission_id)
        unfinished = sum(mission.counts[status] for status in ("BLOCKED", "READY", "PENDING", "REVIEW"))
        quota = await self._base.tenants.quota(tenant)
        room = min(WINDOW, settings.plan_window - unfinished)
        if quota.max_ready:
            room = min(room, max(LEAST - unfinished, quota.max_ready - await missions.unfinished()))
        if mission.planned_all or room <= 0:
            return False
        standing = mission.counts["ACCEPTED"] - mission.shelved
        if mission.large and planning_waits(standing, settings.plan_window):
            raise QueueFull(
                f"{standing:,} accepted tasks of it stand in Redis and wait for the shelver to move them to "
                "the blob store: if it cannot be written, make room there"
            )
        await self._base.room.require()  # before the inputs are read for nothing
        items = ()
        if not isinstance(mission.spec.plan, DagPlan):
            items = tuple(await self._base.blobs.read_inputs(tenant, mission_id, mission.planned, room))
            if not items:
                raise CorruptRecord(
                    f"inputs of mission {mission_id} end at {mission.planned} of {mission.inputs}"
                )
        window = next_window(
            mission.spec,
            items,
            cursor=mission.planned,
            inputs=mission.inputs,
            width=settings.reduce_width,
        )
        refill = settings.plan_window - min(WINDOW, settings.plan_window // SHARE)
        if not await missions.plan(
            mission_id, window, cursor=mission.planned, term=term, by=by, refill=refill
        ):
            return False
        if (tenant, mission_id) in self._waiting:
            log.warning("planner.goes_on", tenant=tenant, mission_id=mission_id)
            self._waiting.discard((tenant, mission_id))
        log.debug("mission.planned", tenant=tenant, mission_id=mission_id, tasks=len(window.tasks))
        return not window.done
