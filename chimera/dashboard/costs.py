"""Costs: what is spent against each limit, how fast, where that leads; and the brake.

Of one tenant all of it, of many a line each. It rests on the ledger's counters alone (`runtime/spending.py`),
so it may be asked every second; what money went to is in the recorder: `breakdown.py`.
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
from chimera.core.views import GovernorView, Health, View
from chimera.dashboard.payload import line
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.runtime.brakeviews import canary_health, governor_view
from chimera.runtime.spending import fleet_levels, outlook, outlook_of
from chimera.store.brakes import BrakeStore, Look, Moved
from chimera.store.flags import flags_of
from chimera.store.spending import standings

MOST_MOVES = 25


class MoveRow(View):
    """A change of the brake, as the recorder has it (`brake.changed`)."""

    at: datetime
    before: str
    after: str
    cause: str
    by: str
    reason: str
    figures: dict[str, float | int]


class TenantCosts(View):
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


class CostsPanel(View):
    """Money and brakes, as they stand."""

    at: datetime
    tenant: str = Field(description="Whose; empty: several are told, each in a line.")
    outlook: OutlookView | None = Field(None, description="Of one tenant.")
    brake: GovernorView | None = None
    brake_damaged: str = Field("", description="Why the brake cannot be read, and what to do.")
    moves: tuple[MoveRow, ...] = Field((), description="The brake's last changes, the newest first.")
    tenants: tuple[TenantCosts, ...] = Field((), description="Of several, who spends fastest first.")
    fleet: tuple[LevelView, ...] = Field(
        (), description="Limits over all tenants; for a key of the fleet alone."
    )
    canary: Health


async def costs_panel(base: Base, tenants: Sequence[str], *, one: bool, of_fleet: bool) -> CostsPanel:
    """Money and brakes of one tenant, or of many in a line each.

    Args:
        one: `tenants` is a choice of one, told in full.
        of_fleet: the limits over all tenants are told too.
    Raises:
        CorruptRecord, StoreUnavailable: a ledger cannot be read.
    """
    brakes = BrakeStore(base.redis)
    canary = canary_health(await brakes.canary(), base.settings.canary_s)
    fleet = tuple(await fleet_levels(base)) if of_fleet else ()
    if one:
        return await _of_one(base, brakes, tenants[0], canary, fleet)
    return await _of_many(base, brakes, tenants, canary, fleet)


async def _of_one(
    base: Base, brakes: BrakeStore, tenant: str, canary: Health, fleet: tuple[LevelView, ...]
) -> CostsPanel:
    stands = await outlook(base, tenant)
    look = (await _looks(base, brakes, [tenant]))[tenant]
    damaged = isinstance(look, ChimeraError)
    return CostsPanel(
        at=stands.at,
        tenant=tenant,
        outlook=stands,
        brake=governor_view(tenant, look, base.settings.brake_rules) if isinstance(look, Look) else None,
        brake_damaged=str(look) if damaged else "",
        moves=tuple(map(_move, await brakes.moves(tenant, MOST_MOVES))),
        fleet=fleet,
        canary=canary,
    )


async def _of_many(
    base: Base, brakes: BrakeStore, tenants: Sequence[str], canary: Health, fleet: tuple[LevelView, ...]
) -> CostsPanel:
    found = await standings(base.redis, tenants)
    flags = await flags_of(base.redis, tenants)
    looks = await _looks(base, brakes, tenants)
    rows = []
    for tenant in tenants:
        stands = outlook_of(tenant, found[tenant], flags=flags[tenant])
        rows.append(_row(stands, looks[tenant]))
        await asyncio.sleep(0)  # a ledger has hundreds of counters: others on the loop have their turn
    rows.sort(key=lambda row: (-(row.microusd_per_h or 0), -row.month_microusd, row.tenant))
    at = max((one.at for one in found.values()), default=datetime.fromtimestamp(0, UTC))
    return CostsPanel(at=at, tenant="", tenants=tuple(rows), fleet=fleet, canary=canary)


async def _looks(base: Base, brakes: BrakeStore, tenants: Sequence[str]) -> dict[str, Look | ChimeraError]:
    rules = base.settings.brake_rules
    return await brakes.look(tenants, short_s=rules.short_s, long_s=rules.long_s)


def _row(stands: OutlookView, look: Look | ChimeraError) -> TenantCosts:
    def spent(window: Window) -> int:
        return stands.settled_microusd.get(window_id(window, stands.at), 0)

    return TenantCosts(
        tenant=stands.tenant,
        day_microusd=spent(Window.DAY),
        month_microusd=spent(Window.MONTH),
        held_microusd=stands.held_microusd,
        microusd_per_h=None if stands.pace_hour is None else stands.pace_hour.microusd_per_h,
        year_microusd=None if stands.year is None else stands.year.likely_microusd,
        fullest=max(stands.levels, key=used, default=None),
        brake=look.brake.state if isinstance(look, Look) else None,
        flags=len(stands.flags),
    )


def used(level: LevelView) -> float:
    """The share of a limit that is settled or held."""
    return (level.settled_microusd + level.held_microusd) / max(level.limit_microusd, 1)


def _move(move: Moved) -> MoveRow:
    return MoveRow(
        at=datetime.fromtimestamp(move.at_ms / 1_000, UTC),
        before=move.before,
        after=move.after,
        cause=move.cause,
        by=line(move.by, 200),
        reason=line(move.reason, 500),
        figures=dict(move.figures),
    )
