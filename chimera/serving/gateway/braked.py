"""What the gateway tells of the brakes and the canary, to machines that look after the hub."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.core.brake import STATES, figures
from chimera.core.views import Health
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.serving.brakeviews import canary_health
from chimera.serving.gateway.hub import Probe
from chimera.store.brakes import BrakeStore
from chimera.telemetry.figures import Figure

CANARY = "canary"
"""Its name among the parts of the hub. While it is ill the hub takes work, and nothing is paid."""


def proven(base: Base) -> Probe:
    """A probe of the canary: well while it is refused, as it must."""
    store, every_s = BrakeStore(base.redis), base.settings.canary_s

    async def probe() -> Health:
        return canary_health(await store.canary(), every_s)

    return probe


async def told(base: Base, tenants: Sequence[str]) -> list[Figure]:
    """Every tenant's brake, and the canary, for Prometheus.

    Raises:
        StoreError: the store is away.
    """
    store, rules = BrakeStore(base.redis), base.settings.brake_rules
    looks = await store.look(tenants, short_s=rules.short_s, long_s=rules.long_s)
    said = []
    for tenant, look in looks.items():
        if isinstance(look, ChimeraError):
            continue  # it is in the governor's log; the others are told
        shown = figures(look.burn, rules)
        said += [
            Figure("chimera_brake_state", (tenant,), STATES.index(look.brake.state)),
            Figure("chimera_brake_burn", (tenant, "short"), shown["burn_short"]),
            Figure("chimera_brake_burn", (tenant, "long"), shown["burn_long"]),
            Figure("chimera_brake_notices", (tenant,), look.notices),
        ]
    well = canary_health(await store.canary(), base.settings.canary_s).ok
    return [*said, Figure("chimera_canary_well", (), int(well))]
