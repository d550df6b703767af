"""The fleet at a glance: who works, who waits, for how long; leases by age; how many workers were wanted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import Field

from chimera.core.task import Priority
from chimera.core.views import Damaged, View
from chimera.runtime.base import Base
from chimera.store.damage import apart
from chimera.store.swarms import MOST_LEASES, Change, Swarm, ages, changes, swarms

AGES_S = (10.0, 60.0, 600.0, 3_600.0)
"""Upper bounds of the ages of leases, s; one more is beyond all."""
SHOWN_CHANGES = 20


class Workers(View):
    """Workers by state, each counted once."""

    starting: int = Field(description="Wanted by the fleet controller, and not heard of yet.")
    busy: int = Field(description="With an attempt under way.")
    idle: int = Field(description="Without one.")
    draining: int = Field(description="Taking nothing more.")
    lost: int = Field(
        description="Silent for longer than a lease; their work goes back within about a second."
    )


class Row(View):
    """One tenant, or all of them together."""

    tenant: str = Field(description='"" for all together.')
    workers: Workers
    agents: int = Field(description="Under way: slots of workers in use.")
    slots: int = Field(description="Agents that these workers have room for.")
    ready: dict[Priority, int] = Field(description="Tasks that wait for a slot, by priority.")
    oldest_s: float | None = Field(
        description="How long the first in line has waited; null: none is in line."
    )
    leases: int = Field(description="Tasks under a worker's lease.")
    overdue: int = Field(
        description="Of these, those whose lease has run out and which nobody took back yet."
    )
    reviews: int = Field(description="Results that wait for a judge, or are with one.")
    inbox: int = Field(description="Tasks that wait for a human.")
    brake: str = Field(description="open, throttled or frozen; of all together the most severe.")
    suspended: bool


class FleetPanel(View):
    """Every tenant, and all of them together."""

    places: int = Field(
        description="Workers that there may be at once (CHIMERA_MAX_WORKERS; 0: as nodes have room)."
    )
    total: Row
    tenants: tuple[Row, ...]
    damaged: tuple[Damaged, ...] = Field(
        (), description="Tenants that are left out: of them something cannot be read."
    )


class Bucket(View):
    """Leases whose age is within a bound and over the one before."""

    up_to_s: float | None = Field(description="Null: beyond all bounds.")
    count: int


class LeasesPanel(View):
    """Tasks under lease by how long they have been: since their claim, whatever was renewed since."""

    leases: int
    looked_at: int = Field(description=f"Of these; at most {MOST_LEASES:,} of each tenant.")
    oldest_s: float | None
    buckets: tuple[Bucket, ...]


class ChangeView(View):
    """The fleet controller wanted another number of workers."""

    tenant: str
    at: datetime
    before: int
    workers: int
    why: str


class ScalingPanel(View):
    """The last of these changes, newest first: events `fleet.scaled` of the recorder."""

    changes: tuple[ChangeView, ...]


async def fleet_panel(base: Base, tenants: Sequence[str]) -> FleetPanel:
    """The tenants as they stand; in three round trips however many there are."""
    found, damaged = await apart(tenants, lambda some: swarms(base.redis, some))
    rows = tuple(_row(one) for one in found.values())
    return FleetPanel(
        places=base.settings.max_workers,
        total=_total(rows),
        tenants=rows,
        damaged=tuple(Damaged(id=name, detail=str(exc)) for name, exc in damaged.items()),
    )


async def leases_panel(base: Base, tenants: Sequence[str]) -> LeasesPanel:
    """Leases by age; in two round trips."""
    found, count = await ages(base.redis, tenants)
    return LeasesPanel(
        leases=count, looked_at=len(found), oldest_s=max(found, default=None), buckets=tuple(_buckets(found))
    )


async def scaling_panel(base: Base, tenants: Sequence[str]) -> ScalingPanel:
    """The last changes; in one round trip."""
    found = await changes(base.redis, tenants, SHOWN_CHANGES)
    return ScalingPanel(
        changes=tuple(
            ChangeView(
                tenant=one.tenant,
                at=datetime.fromtimestamp(one.at_us / 1e6, UTC),
                before=one.before,
                workers=one.workers,
                why=why(one),
            )
            for one in found
        )
    )


def why(change: Change) -> str:
    """What the controller saw, in words."""
    if change.workers == 0 and not change.scarce:
        return "nothing was to do for a while"
    seen = f"{change.backlog:,} tasks could run, {change.running:,} were under way"
    return f"{seen}; more tenants had work than there were places" if change.scarce else seen


def _row(one: Swarm) -> Row:
    return Row(
        tenant=one.tenant,
        workers=Workers(
            starting=one.starting, busy=one.busy, idle=one.idle, draining=one.draining, lost=one.lost
        ),
        agents=one.slots_busy,
        slots=one.slots,
        ready=one.ready,
        oldest_s=one.oldest_s,
        leases=one.leases,
        overdue=one.overdue,
        reviews=one.reviews,
        inbox=one.inbox,
        brake=one.brake,
        suspended=one.suspended,
    )


BRAKES = ("open", "throttled", "frozen")


def _total(rows: Sequence[Row]) -> Row:
    waits = [row.oldest_s for row in rows if row.oldest_s is not None]
    return Row(
        tenant="",
        workers=Workers(
            **{state: sum(getattr(row.workers, state) for row in rows) for state in Workers.model_fields}
        ),
        agents=sum(row.agents for row in rows),
        slots=sum(row.slots for row in rows),
        ready={priority: sum(row.ready[priority] for row in rows) for priority in Priority},
        oldest_s=max(waits, default=None),
        leases=sum(row.leases for row in rows),
        overdue=sum(row.overdue for row in rows),
        reviews=sum(row.reviews for row in rows),
        inbox=sum(row.inbox for row in rows),
        brake=max((row.brake for row in rows), key=BRAKES.index, default="open"),
        suspended=False,
    )


def _buckets(found: Sequence[float]) -> Iterable[Bucket]:
    counts = [0] * (len(AGES_S) + 1)
    for age in found:
        counts[bisect_left(AGES_S, age)] += 1
    return (Bucket(up_to_s=bound, count=count) for bound, count in zip((*AGES_S, None), counts, strict=True))
