"""What the gateway tells of the archives, the recorder's and that of finished missions."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.runtime.exporting import SERVER
from chimera.serving.gateway.hub import Probe
from chimera.store.exports import MOST_DEAD, backlogs
from chimera.store.sinks import MCP, Troubles, unread
from chimera.telemetry.figures import Figure

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
            said.append(f"the events of {held} tenant(s) wait for a word on dead letters")
        if dead:
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


async def figures(base: Base, tenants: Sequence[str]) -> list[Figure]:
    """Every tenant's archives, for Prometheus.

    Raises:
        StoreError: the store is away.
    """
    troubles, retention = await base.troubles.all(), await base.retention_troubles.all()
    behind = await unread(base.redis, tenants)
    sinks, server = await backlogs(base.redis, tenants), (await base.export_troubles.all()).get(SERVER, {})
    told = [Figure("chimera_export_failures", (), int(server.get("failures", 0)))]
    for tenant in tenants:
        told += [
            Figure("chimera_export_behind", (tenant,), sinks[tenant].behind(MCP)),
            Figure("chimera_export_dead", (tenant,), sinks[tenant].dead),
            Figure("chimera_recorder_unarchived", (tenant,), behind[tenant]),
            Figure("chimera_archive_failures", (tenant,), int(troubles.get(tenant, {}).get("failures", 0))),
            Figure(
                "chimera_retention_failures", (tenant,), int(retention.get(tenant, {}).get("failures", 0))
            ),
        ]
    return told
