"""What the gateway tells of the archives, the recorder's and that of finished missions."""

from __future__ import annotations

from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway.hub import Probe
from chimera.store.sinks import Troubles
from chimera.telemetry.metrics import Metrics

RECORDER, RETENTION = "recorder", "retention"
PARTS = (RECORDER, RETENTION)
"""Their names among the parts of the hub. While one is ill the hub takes work and does it all the same."""


def archived(base: Base) -> Probe:
    """A probe of the recorder's archive: well while no tenant's cannot be written."""
    return _probe(base.troubles, "the archive of {} tenant(s) cannot be written since {}: {}")


def retained(base: Base) -> Probe:
    """A probe of the retention: well while every tenant's finished missions can be archived."""
    return _probe(
        base.retention_troubles, "finished missions of {} tenant(s) cannot be archived since {}: {}"
    )


def _probe(of: Troubles, sentence: str) -> Probe:
    async def probe() -> Health:
        troubles = await of.all()
        if not troubles:
            return Health(ok=True)
        # Whoever asks needs no key: so neither names of tenants nor paths.
        since = min(str(said["since"]) for said in troubles.values())
        reasons = ", ".join(sorted({str(said["reason"]) for said in troubles.values()}))
        return Health(ok=False, detail=sentence.format(len(troubles), since, reasons))

    return probe


async def measure(base: Base, metrics: Metrics) -> None:
    """Set the gauges of every tenant's archives.

    Raises:
        StoreError: the store is away.
    """
    behind = metrics.gauge("chimera_recorder_unarchived")
    failures = metrics.gauge("chimera_archive_failures")
    finished = metrics.gauge("chimera_missions_finished")
    unretired = metrics.gauge("chimera_retention_failures")
    troubles, retention = await base.troubles.all(), await base.retention_troubles.all()
    for tenant in await base.tenants.names():
        stores = base.of(tenant)
        behind.labels(tenant=tenant).set((await stores.sink.stand()).behind)
        failures.labels(tenant=tenant).set(troubles.get(tenant, {}).get("failures", 0))
        finished.labels(tenant=tenant).set(await stores.pruning.count())
        unretired.labels(tenant=tenant).set(retention.get(tenant, {}).get("failures", 0))
