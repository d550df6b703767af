"""What the gateway tells of the brakes and the canary, to machines that look after the hub."""

from __future__ import annotations

from chimera.core.brake import STATES, figures
from chimera.core.views import Health
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.runtime.brakeviews import canary_health
from chimera.serving.gateway.hub import Probe
from chimera.store.brakes import BrakeStore
from chimera.telemetry.metrics import Metrics

CANARY = "canary"
"""Its name among the parts of the hub. While it is ill the hub takes work, and nothing is paid."""


def proven(base: Base) -> Probe:
    """A probe of the canary: well while it is refused, as it must."""
    store, every_s = BrakeStore(base.redis), base.settings.canary_s

    async def probe() -> Health:
        return canary_health(await store.canary(), every_s)

    return probe


async def measure(base: Base, metrics: Metrics) -> None:
    """Set the gauges of every tenant's brake, and of the canary.

    Raises:
        StoreError: the store is away.
    """
    store, rules = BrakeStore(base.redis), base.settings.brake_rules
    state, burn = metrics.gauge("chimera_brake_state"), metrics.gauge("chimera_brake_burn")
    notices = metrics.gauge("chimera_brake_notices")
    looks = await store.look(await base.tenants.names(), short_s=rules.short_s, long_s=rules.long_s)
    for tenant, look in looks.items():
        if isinstance(look, ChimeraError):
            continue  # it is in the governor's log; the others are told
        state.labels(tenant=tenant).set(STATES.index(look.brake.state))
        shown = figures(look.burn, rules)
        burn.labels(tenant=tenant, window="short").set(shown["burn_short"])
        burn.labels(tenant=tenant, window="long").set(shown["burn_long"])
        notices.labels(tenant=tenant).set(look.notices)
    well = canary_health(await store.canary(), base.settings.canary_s).ok
    metrics.gauge("chimera_canary_well").set(int(well))
