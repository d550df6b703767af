"""The brake: where it stands, what it is decided on, how it came there; and what a person's word would do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import Field

from chimera.core.views import GovernorView, Health, View
from chimera.dashboard.payload import line
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.runtime.brakeviews import canary_health, governor_view
from chimera.store.brakes import BrakeStore, Look, Moved
from chimera.store.effects import Effects, effects

MOST_MOVES = 25
MOST_GOALS = 5
GOAL_CHARS = 80


class MoveRow(View):
    """A change of the brake, as the recorder has it (`brake.changed`)."""

    at: datetime
    before: str
    after: str
    cause: str
    by: str
    reason: str
    figures: dict[str, float | int]


class TenantBrake(View):
    """One tenant's brake; its own is null where it cannot be read."""

    tenant: str
    governor: GovernorView | None
    damaged: str = Field("", description="Why it cannot be read, and what to do.")


class BrakePanel(View):
    """Brakes as they stand."""

    at: datetime = Field(description="The store's clock.")
    brakes: tuple[TenantBrake, ...] = Field(
        description="Of one tenant its own; of several those that are not open, or overridden, or damaged."
    )
    open: int = Field(description="How many are open, and so not told where several are.")
    moves: tuple[MoveRow, ...] = Field((), description="Of one tenant: the last changes, the newest first.")
    canary: Health


class WhatStops(View):
    """What a person's word on a brake is about, said before it is given."""

    tenant: str
    governor: GovernorView
    missions: int = Field(description="Missions that are not over.")
    goals: tuple[str, ...] = Field(description="Of some of them.")
    waiting: int = Field(description="Tasks that wait: to be claimed, for others, for a judge.")
    leases: int = Field(description="Attempts under way.")
    calls: int = Field(description="Paid calls under way: these end, and are charged.")


async def brake_panel(base: Base, tenants: Sequence[str], *, whole: bool) -> BrakePanel:
    """The brake of one tenant with its log, or of all those that are not open.

    Raises:
        StoreUnavailable: the store is away.
    """
    store, rules = BrakeStore(base.redis), base.settings.brake_rules
    record = await store.canary()
    looks = await store.look(tenants, short_s=rules.short_s, long_s=rules.long_s)
    found = [_brake(base, tenant, look) for tenant, look in looks.items()]
    told = [one for one in found if not whole or _stands_out(one)]
    return BrakePanel(
        at=datetime.fromtimestamp(record.now_us / 1e6, UTC),
        brakes=tuple(told),
        open=len(found) - len(told),
        moves=() if whole else tuple(map(_move, await store.moves(tenants[0], MOST_MOVES))),
        canary=canary_health(record, base.settings.canary_s),
    )


async def what_stops(base: Base, tenant: str) -> WhatStops:
    """What a freeze would stop, a thaw let go on.

    Raises:
        CorruptRecord: the brake cannot be read.
    """
    rules = base.settings.brake_rules
    look = (await BrakeStore(base.redis).look([tenant], short_s=rules.short_s, long_s=rules.long_s))[tenant]
    if isinstance(look, ChimeraError):
        raise look
    found: Effects = await effects(base.redis, tenant, goals=MOST_GOALS)
    return WhatStops(
        tenant=tenant,
        governor=governor_view(tenant, look, rules),
        missions=found.missions,
        goals=tuple(line(goal, GOAL_CHARS) for goal in found.goals),
        waiting=found.waiting,
        leases=found.leases,
        calls=found.calls,
    )


def _brake(base: Base, tenant: str, look: Look | ChimeraError) -> TenantBrake:
    if isinstance(look, ChimeraError):
        return TenantBrake(tenant=tenant, governor=None, damaged=str(look))
    view = governor_view(tenant, look, base.settings.brake_rules)
    shown = view.model_copy(update={"reason": line(view.reason, 500), "by": line(view.by, 200)})
    return TenantBrake(tenant=tenant, governor=shown)


def _stands_out(one: TenantBrake) -> bool:
    return one.governor is None or one.governor.state != "open" or one.governor.override_until is not None


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
