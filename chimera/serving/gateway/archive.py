"""What the gateway tells of the recorder's archive: its health, and how far it is behind."""

from __future__ import annotations

from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway.hub import Probe
from chimera.telemetry.metrics import Metrics

PART = "recorder"
"""Its name among the parts of the hub. While it is ill the hub takes work and does it all the same."""


def archived(base: Base) -> Probe:
    """A probe of the archive: well while no tenant's cannot be written."""

    async def probe() -> Health:
        troubles = await base.troubles.all()
        if not troubles:
            return Health(ok=True)
        # Whoever asks needs no key: so neither names of tenants nor paths.
        since = min(str(said["since"]) for said in troubles.values())
        reasons = ", ".join(sorted({str(said["reason"]) for said in troubles.values()}))
        return Health(
            ok=False,
            detail=f"the archive of {len(troubles)} tenant(s) cannot be written since {since}: {reasons}",
        )

    return probe


async def measure(base: Base, metrics: Metrics) -> None:
    """Set the gauges of every tenant's archive.

    Raises:
        StoreError: the store is away.
    """
    behind = metrics.gauge("chimera_recorder_unarchived")
    failures = metrics.gauge("chimera_archive_failures")
    troubles = await base.troubles.all()
    for tenant in await base.tenants.names():
        stand = await base.of(tenant).sink.stand()
        behind.labels(tenant=tenant).set(stand.behind)
        failures.labels(tenant=tenant).set(troubles.get(tenant, {}).get("failures", 0))
