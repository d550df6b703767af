"""The list of missions: of one tenant or of all, newest first, those wanted alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import Field

from chimera.core.mission import MissionStatus
from chimera.core.task import TaskStatus
from chimera.core.views import Damaged, View
from chimera.dashboard.film import instant
from chimera.dashboard.links import mission_href
from chimera.errors import InvalidRequest
from chimera.runtime.base import Base
from chimera.store.newest import Glance, Place, glance_of, glances, newest

PAGE = 25
LOOKS = 10
"""So many reads of `LOOK` missions each make one page, however few of them are wanted."""
LOOK = 200


class MissionRow(View):
    """A mission in the list."""

    mission_id: str
    tenant: str
    status: MissionStatus
    reason: str
    goal: str
    agent: str
    strategy: str
    priority: str
    submitted_at: datetime
    finished_at: datetime | None
    total_tasks: int
    counts: dict[TaskStatus, int] = Field(description="Planned tasks by status.")
    settled_microusd: int
    budget_microusd: int
    archived: bool = Field(description="It is read from its archive, and cannot be changed any more.")

    @property
    def href(self) -> str:
        """Its page."""
        return mission_href(self.tenant, self.mission_id)

    @property
    def done(self) -> int:
        """Tasks that are final."""
        return sum(self.counts[one] for one in (TaskStatus.ACCEPTED, TaskStatus.FAILED, TaskStatus.CANCELLED))


class MissionList(View):
    """One page of missions."""

    missions: tuple[MissionRow, ...]
    next: str | None = Field(description="Goes into `after` for the page that follows; null at the end.")
    looked: int = Field(description="Missions that were looked at to find these.")
    damaged: tuple[Damaged, ...] = Field(description="Those whose record cannot be read.")


class Wanted(View):
    """Which missions a list is to show. What is empty lets all pass."""

    status: str = ""
    agent: str = ""
    text: str = Field("", description="Stands in its goal, or is how its id begins; case does not count.")

    def has(self, one: Glance) -> bool:
        """Whether a mission is wanted."""
        text = self.text.strip().casefold()
        return (
            self.status in {"", one.status}
            and self.agent in {"", one.agent}
            and (text in one.goal.casefold() or one.mission_id.startswith(text))
        )

    @property
    def all(self) -> bool:
        """Whether every mission is."""
        return not (self.status or self.agent or self.text.strip())


async def mission_list(
    base: Base, tenants: Sequence[str], wanted: Wanted, *, archived: bool, after: str, most: int = PAGE
) -> MissionList:
    """A page of the list. With a filter it may be short, and even empty, and still have a `next`.

    Args:
        archived: those that left Redis; else those that are there.
    Raises:
        InvalidRequest: `after` is no place in a list.
    """
    try:
        before = Place.parse(after) if after else None
    except ValueError as exc:
        raise InvalidRequest(f"{exc}: take it from `next` of the page before") from exc
    found: list[Glance] = []
    damaged: dict[str, str] = {}
    looked = 0
    following: str | None = None
    for _ in range(LOOKS):
        size = most + 1 if wanted.all else LOOK
        if archived:
            by_place = await _archived(base, tenants, before, size)
            order = list(by_place)
        else:
            order = await newest(base.redis, tenants, before=before, most=size)
            read, worse = await glances(base.redis, order)
            by_place = {one.place: one for one in read}
            damaged |= {mission_id: str(exc) for mission_id, exc in worse.items()}
        for place in order:
            if len(found) == most:
                return _page(found, following, looked, damaged)
            looked, before, following = looked + 1, place, str(place)
            if place in by_place and wanted.has(by_place[place]):
                found.append(by_place[place])
        if len(order) < size:
            return _page(found, None, looked, damaged)
    return _page(found, following, looked, damaged)


async def _archived(
    base: Base, tenants: Sequence[str], before: Place | None, most: int
) -> dict[Place, Glance]:
    """Dossiers of all these tenants: by their ids, which are in the order of time."""
    last = before.mission_id if before else ""
    ids = await asyncio.gather(
        *(base.of(tenant).readings.archived(before=last, most=most) for tenant in tenants)
    )
    named = sorted(
        ((mission_id, tenant) for tenant, some in zip(tenants, ids, strict=True) for mission_id in some),
        reverse=True,
    )[:most]
    records = await asyncio.gather(
        *(base.of(tenant).readings.find_archived([mission_id]) for mission_id, tenant in named)
    )
    told = [
        glance_of(found[mission_id], tenant)
        for (mission_id, tenant), found in zip(named, records, strict=True)
        if mission_id in found
    ]
    return {one.place: one for one in told}


def _page(
    found: Sequence[Glance], following: str | None, looked: int, damaged: Mapping[str, str]
) -> MissionList:
    return MissionList(
        missions=tuple(map(_row, found)),
        next=following,
        looked=looked,
        damaged=tuple(Damaged(id=one, detail=detail) for one, detail in damaged.items()),
    )


def _row(one: Glance) -> MissionRow:
    return MissionRow(
        mission_id=one.mission_id,
        tenant=one.tenant,
        status=one.status,
        reason=one.reason,
        goal=one.goal,
        agent=one.agent,
        strategy=one.strategy,
        priority=one.priority,
        submitted_at=instant(one.submitted_at_us),
        finished_at=instant(one.finished_at_us) if one.finished_at_us else None,
        total_tasks=one.total_tasks,
        counts={TaskStatus(status): count for status, count in one.counts.items()},
        settled_microusd=one.settled_microusd,
        budget_microusd=one.budget_microusd,
        archived=one.archived,
    )
