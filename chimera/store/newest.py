"""Missions of many tenants, the newest first: what a list of them shows, in two round trips however many."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from chimera.core.mission import MissionStatus
from chimera.core.task import Priority
from chimera.errors import CorruptRecord
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.missionrecord import STATUSES, MissionRecord

_PLACE = re.compile(r"(\d{1,19})/([a-z0-9-]{1,39})/([^/]{1,64})")
FIELDS = (
    "status",
    "reason",
    "goal",
    "priority",
    "submitted_at",
    "finished_at",
    "budget",
    "total_tasks",
    "spec",
)


class Place(NamedTuple):
    """Where a mission stands in the list: ordered as that is, from the end."""

    submitted_at_us: int
    tenant: str
    mission_id: str

    def __str__(self) -> str:
        return "/".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place that `str` made the text from. Raises ValueError."""
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:80]!r} is no place in a list of missions")
        return cls(int(match[1]), match[2], match[3])


@dataclass(frozen=True, slots=True)
class Glance:
    """What a list shows of a mission. Instants are µs since the epoch, 0 where there is none; money is µ$."""

    tenant: str
    mission_id: str
    status: MissionStatus
    reason: str
    goal: str
    agent: str
    strategy: str
    priority: Priority
    submitted_at_us: int
    finished_at_us: int
    budget_microusd: int
    settled_microusd: int
    total_tasks: int
    counts: Mapping[str, int]
    archived: bool = False

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.submitted_at_us, self.tenant, self.mission_id)


async def newest(
    redis: Redis, tenants: Sequence[str], *, before: Place | None = None, most: int
) -> list[Place]:
    """The missions submitted last, of all these tenants; those behind a place of the list."""
    highest = "+inf" if before is None else before.submitted_at_us
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                # One more: the mission at that very place is passed over.
                pipe.zrange(
                    TenantKeys(tenant).missions,
                    highest,
                    "-inf",
                    desc=True,
                    byscore=True,
                    offset=0,
                    num=most + 1,
                    withscores=True,
                )
            found = await pipe.execute()
        places = [
            Place(int(score), tenant, mission_id)
            for tenant, rows in zip(tenants, found, strict=True)
            for mission_id, score in rows
        ]
    return sorted((one for one in places if before is None or one < before), reverse=True)[:most]


async def glances(redis: Redis, places: Sequence[Place]) -> tuple[list[Glance], dict[str, CorruptRecord]]:
    """What is there of these missions, in the order asked, and of each that cannot be read the error.

    One that was pruned meanwhile is left out.
    """
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for _, tenant, mission_id in places:
                keys = TenantKeys(tenant)
                pipe.hmget(keys.of("mission", mission_id), *FIELDS, "archived_at")
                pipe.hmget(keys.of("counts", mission_id), *STATUSES)
                pipe.hget(keys.of("spend", mission_id), "settled")
            rows = await pipe.execute()
    found: list[Glance] = []
    damaged: dict[str, CorruptRecord] = {}
    for at, place in enumerate(places):
        said, counts, settled = rows[3 * at : 3 * at + 3]
        if said[0] is None or said[-1] is not None:
            continue
        try:
            with translated():
                found.append(_glance(place, said, counts, settled))
        except CorruptRecord as exc:
            damaged[place.mission_id] = exc
    return found, damaged


async def owner_of(redis: Redis, tenants: Sequence[str], mission_id: str) -> str | None:
    """Whose mission it is; None: it is not in Redis."""
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                pipe.exists(TenantKeys(tenant).of("mission", mission_id))
            there = await pipe.execute()
    return next((tenant for tenant, one in zip(tenants, there, strict=True) if one), None)


def glance_of(record: MissionRecord, tenant: str) -> Glance:
    """The same of a mission that was read whole: of one that is archived."""
    return Glance(
        tenant=tenant,
        mission_id=record.mission_id,
        status=record.status,
        reason=record.reason,
        goal=record.state.goal,
        agent=record.spec.agent,
        strategy=record.spec.plan.strategy,
        priority=record.spec.priority,
        submitted_at_us=record.submitted_at_us,
        finished_at_us=record.finished_at_us,
        budget_microusd=record.budget_microusd,
        settled_microusd=record.settled_microusd,
        total_tasks=record.total_tasks,
        counts=record.counts,
        archived=record.archived,
    )


def _glance(
    place: Place, said: Sequence[str | None], counts: Sequence[str | None], settled: str | None
) -> Glance:
    told = dict(zip(FIELDS, said, strict=False))
    # Not as a `MissionBase`: a plan of a thousand nodes would be checked for each line of a list.
    spec = orjson.loads(told["spec"] or "")
    return Glance(
        tenant=place.tenant,
        mission_id=place.mission_id,
        status=MissionStatus(_text(told["status"])),
        reason=told["reason"] or "",
        goal=_text(told["goal"]),
        agent=_text(spec["agent"]),
        strategy=_text(spec["plan"]["strategy"]),
        priority=Priority(_text(told["priority"])),
        submitted_at_us=int(_text(told["submitted_at"])),
        finished_at_us=int(told["finished_at"] or 0),
        budget_microusd=int(_text(told["budget"])),
        settled_microusd=int(settled or 0),
        total_tasks=int(_text(told["total_tasks"])),
        counts={status: int(count or 0) for status, count in zip(STATUSES, counts, strict=True)},
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a member of it is missing")
    return value
