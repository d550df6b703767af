"""Brakes and the canary as people and programs are shown them: by the API, and by `chimera governor`."""

from __future__ import annotations

from datetime import UTC, datetime

from chimera.core.brake import Rules, figures
from chimera.core.views import GovernorView, Health
from chimera.store.brakes import CanaryRecord, Look

LATE = 3
"""So many canaries may be missing before it is said."""
SLACK_S = 10.0


def governor_view(tenant: str, look: Look, rules: Rules) -> GovernorView:
    """A tenant's brake."""
    brake = look.brake
    overridden = brake.override_until_us > look.burn.now_us
    return GovernorView(
        tenant=tenant,
        state=brake.state,
        cause=brake.cause,
        since=_instant(brake.since_us),
        by=brake.by,
        reason=brake.reason,
        override_until=_instant(brake.override_until_us if overridden else 0),
        burn=dict(figures(look.burn, rules)),
        thresholds={
            "throttle_burn": rules.throttle_burn,
            "freeze_burn": rules.freeze_burn,
            "floor_microusd": rules.floor,
            "unaccepted_microusd": rules.unaccepted,
            "calm_s": rules.calm_s,
        },
    )


def canary_health(record: CanaryRecord, every_s: float) -> Health:
    """How the canary is; without names of tenants, for whoever asks needs no key."""
    if record.failure:
        return Health(
            ok=False,
            detail="a reservation over its limit was granted, so every tenant is frozen: limits do not hold",
        )
    if not every_s:
        return Health(ok=True, detail="off (CHIMERA_CANARY_S=0)")
    if not record.at_us:
        return Health(ok=True, detail="none was asked for yet")
    age_s = (record.now_us - (record.proven_us or record.at_us)) / 1e6
    if record.said == "odd":
        return Health(ok=False, detail=f"whether limits hold is not known: {record.detail}")
    if age_s > LATE * every_s + SLACK_S:
        return Health(
            ok=False,
            detail=f"none was answered for {age_s:.0f} s: the governor is away, and nothing is spent",
        )
    return Health(ok=True, detail=f"refused {max(0.0, age_s):.0f} s ago, as it must be")


def _instant(us: int) -> datetime | None:
    """An instant of the store's clock, in µs; 0 is none."""
    return datetime.fromtimestamp(us / 1e6, UTC) if us else None
