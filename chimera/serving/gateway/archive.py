"""What the gateway tells of the archives, the recorder's and that of finished missions."""

from __future__ import annotations

from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.runtime.exporting import SERVER
from chimera.serving.gateway.hub import Probe
from chimera.store.exports import MOST_DEAD, backlogs
from chimera.store.sinks import MCP, Troubles
from chimera.telemetry.metrics import Metrics

RECORDER, RETENTION, EXPORT = "recorder", "retention", "export"
PARTS = (RECORDER, RETENTION, EXPORT)
"""Their names among the parts of the hub. While one is ill the hub takes work and does it all the same."""


def archived(base: Base) -> Probe:
    """A probe of the recorder's archive: well while no tenant's cannot be written."""
    return _probe(base.troubles, "the archive of {} tenant(s) cannot be written since {}: {}")


def retained(base: Base) -> Probe:
    """A probe of the retention: well while every tenant's finished missions can be archived."""
    return _probe(
        base.retention_troubles, "finished missions of {} tenant(s) cannot be archived since {}: {}"
    )


def exported(base: Base) -> Probe:
    """A probe of the exporter: well while the MCP server takes the recorder's events, or none is named."""

    async def probe() -> Health:
        if not base.settings.mcp_url:
            return Health(ok=True)
        troubles = await base.export_troubles.all()
        found = await backlogs(base.redis, await base.tenants.names())
        held = sum(one.dead >= MOST_DEAD for one in found.values())
        dead = sum(one.dead for one in found.values())
        said = []
        if troubles:
            since = min(str(one["since"]) for one in troubles.values())
            said.append(
                f"the MCP server is not told of events since {since}: `chimera recorder sinks` says why"
            )
        if held:
            said.append(
                f"the events of {held} tenant(s) wait for a word on dead letters: `chimera "
                f"recorder dead list`"
            )
        elif dead:
            said.append(f"{dead:,} dead letters: `chimera recorder dead list`")
        return Health(ok=not troubles and not held, detail="; ".join(said))

    return probe


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
    undelivered = metrics.gauge("chimera_export_behind")
    dead = metrics.gauge("chimera_export_dead")
    failing = metrics.gauge("chimera_export_failures")
    troubles, retention = await base.troubles.all(), await base.retention_troubles.all()
    tenants = await base.tenants.names()
    if base.settings.mcp_url:
        server = (await base.export_troubles.all()).get(SERVER, {})
        failing.set(server.get("failures", 0))
        for tenant, one in (await backlogs(base.redis, tenants)).items():
            undelivered.labels(tenant=tenant).set(one.behind(MCP))
            dead.labels(tenant=tenant).set(one.dead)
    for tenant in tenants:
        stores = base.of(tenant)
        behind.labels(tenant=tenant).set((await stores.sink.stand()).behind)
        failures.labels(tenant=tenant).set(troubles.get(tenant, {}).get("failures", 0))
        finished.labels(tenant=tenant).set(await stores.pruning.count())
        unretired.labels(tenant=tenant).set(retention.get(tenant, {}).get("failures", 0))
