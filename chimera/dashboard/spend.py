"""Spend: what is used of each limit, how fast, where that leads; one tenant in full, of many a line each.

It rests on the ledger's counters alone (`runtime/spending.py`), so it may be asked every second; what money
went to is in the recorder: `breakdown.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import Field

from chimera.core.brake import BrakeState
from chimera.core.calendar import window_id
from chimera.core.money import Window
from chimera.core.report import LevelView, OutlookView
from chimera.core.views import View
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.runtime.spending import fleet_levels, outlook, outlook_of
from chimera.store.brakes import BrakeStore, Look
from chimera.store.flags import flags_of
from chimera.store.spending import standings


class TenantSpend(View):
    """One tenant's money in a line."""

    tenant: str
    day_microusd: int = Field(description="Settled today, UTC.")
    month_microusd: int
    held_microusd: int
    microusd_per_h: int | None = Field(description="Over the last hour; null: too little is known.")
    year_microusd: int | None = Field(
        description="What a year is likely to come to; null: too little is known."
    )
    fullest: LevelView | None = Field(
        description="Of its limits the one of which most is used; null: it has none."
    )
    brake: BrakeState | None = Field(description="Null: its record cannot be read.")
    flags: int = Field(description="Levels that refused and that nobody has acknowledged.")


class SpendPanel(View):
    """Money as it stands."""

    at: datetime = Field(description="The store's clock.")
    outlook: OutlookView | None = Field(None, description="Of one tenant.")
    tenants: tuple[TenantSpend, ...] = Field((), description="Of several, who spends fastest first.")
    fleet: tuple[LevelView, ...] = Field((), description="Where all are told: limits over all tenants.")
    day_microusd: int = Field(description="Settled today, by all that are told.")
    month_microusd: int
    held_microusd: int
    microusd_per_h: int | None = Field(description="Over the last hour; null: too little is known.")


async def spend_panel(base: Base, tenants: Sequence[str], *, whole: bool) -> SpendPanel:
    """Money of one tenant, or of all in a line each and the limits over them.

    Raises:
        CorruptRecord, StoreUnavailable: a ledger cannot be read.
    """
    if not whole:
        stands = await outlook(base, tenants[0])
        return _panel(stands.at, [stands], outlook=stands)
    found = await standings(base.redis, tenants)
    flags = await flags_of(base.redis, tenants)
    rules = base.settings.brake_rules
    looks = await BrakeStore(base.redis).look(tenants, short_s=rules.short_s, long_s=rules.long_s)
    several, rows = [], []
    for tenant in tenants:
        several.append(outlook_of(tenant, found[tenant], flags=flags[tenant]))
        rows.append(_row(several[-1], looks[tenant]))
        await asyncio.sleep(0)  # a ledger has hundreds of counters: others on the loop have their turn
    rows.sort(key=lambda row: (-(row.microusd_per_h or 0), -row.month_microusd, row.tenant))
    at = max((one.at for one in several), default=datetime.fromtimestamp(0, UTC))
    return _panel(at, several, tenants=tuple(rows), fleet=tuple(await fleet_levels(base)))


def used(level: LevelView) -> float:
    """The share of a limit that is settled or held: 1 is all of it."""
    return (level.settled_microusd + level.held_microusd) / max(level.limit_microusd, 1)


def soonest(levels: Sequence[LevelView]) -> LevelView | None:
    """The limit that is reached first as things go; None: none is."""
    reached = [(one.cap_at, place) for place, one in enumerate(levels) if one.cap_at]
    return levels[min(reached)[1]] if reached else None


def spent(stands: OutlookView, window: Window) -> int:
    """What was settled in the present day, month …, µ$."""
    return stands.settled_microusd.get(window_id(window, stands.at), 0)


def _panel(
    at: datetime,
    several: Sequence[OutlookView],
    *,
    outlook: OutlookView | None = None,
    tenants: tuple[TenantSpend, ...] = (),
    fleet: tuple[LevelView, ...] = (),
) -> SpendPanel:
    paces = [one.pace_hour.microusd_per_h for one in several if one.pace_hour is not None]
    return SpendPanel(
        at=at,
        outlook=outlook,
        tenants=tenants,
        fleet=fleet,
        day_microusd=sum(spent(one, Window.DAY) for one in several),
        month_microusd=sum(spent(one, Window.MONTH) for one in several),
        held_microusd=sum(one.held_microusd for one in several),
        microusd_per_h=sum(paces) if paces else None,
    )


def _row(stands: OutlookView, look: Look | ChimeraError) -> TenantSpend:
    return TenantSpend(
        tenant=stands.tenant,
        day_microusd=spent(stands, Window.DAY),
        month_microusd=spent(stands, Window.MONTH),
        held_microusd=stands.held_microusd,
        microusd_per_h=None if stands.pace_hour is None else stands.pace_hour.microusd_per_h,
        year_microusd=None if stands.year is None else stands.year.likely_microusd,
        fullest=max(stands.levels, key=used, default=None),
        brake=look.brake.state if isinstance(look, Look) else None,
        flags=len(stands.flags),
    )
