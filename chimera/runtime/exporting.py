"""How far the sinks of the flight recorder are, for people and programs that look after the hub."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.core.sinkviews import SinkView
from chimera.runtime.base import Base
from chimera.store.exports import MOST_DEAD, Backlog, backlogs
from chimera.store.sinks import ARCHIVE, MCP

SERVER = "*"
"""In place of a tenant: the MCP server's own trouble."""


async def sinks(base: Base, tenants: Sequence[str]) -> list[SinkView]:
    """Each sink of each tenant: the archive, and the MCP server where one is named or was."""
    found = await backlogs(base.redis, tenants)
    archive, export = await base.troubles.all(), await base.export_troubles.all()
    views = []
    for tenant, one in found.items():
        said = archive.get(tenant, {}).get("reason", "")
        views.append(_view(tenant, ARCHIVE, one).model_copy(update={"trouble": said}))
        if base.settings.mcp_url or MCP in one.cursors or one.dead:
            held = one.dead >= MOST_DEAD
            said = (
                (export.get(SERVER) or export.get(tenant) or {}).get("reason", "") if one.behind(MCP) else ""
            )
            if held:
                said = f"{one.dead:,} dead letters wait for a word: `chimera recorder dead list`"
            update = {"dead": one.dead, "held": held, "trouble": said}
            views.append(_view(tenant, MCP, one).model_copy(update=update))
    return views


def _view(tenant: str, sink: str, one: Backlog) -> SinkView:
    cursor = one.cursors.get(sink)
    return SinkView(
        tenant=tenant,
        sink=sink,
        seq=cursor.at.seq if cursor else 0,
        newest=one.newest,
        behind=one.behind(sink),
    )
