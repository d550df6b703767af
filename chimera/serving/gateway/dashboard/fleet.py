"""The page that says whether the fleet is well."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from chimera.core.views import View
from chimera.dashboard.fleet import (
    FleetPanel,
    LeasesPanel,
    ScalingPanel,
    fleet_panel,
    leases_panel,
    scaling_panel,
)
from chimera.dashboard.health import HealthPanel, health_panel
from chimera.dashboard.promise import PromisePanel, promise_panel
from chimera.errors import CorruptRecord
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.page import dashboard_page
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Sight, fragments
from chimera.serving.gateway.dashboard.session import ByViewer, PageRoute

ENTRY = Entry("Fleet", "/dashboard/fleet", "f", 10)
router = APIRouter(route_class=PageRoute, include_in_schema=False)


async def _health(sight: Sight, asked: Asked) -> View:
    return health_panel(await sight.hub.health(whole=True))


async def _fleet(sight: Sight, asked: Asked) -> View:
    found = await fleet_panel(sight.hub.base, sight.tenants)
    for one in found.damaged:
        sight.hub.bulkhead.name(CorruptRecord(one.detail), one.id)
    return found


async def _promise(sight: Sight, asked: Asked) -> View:
    return await promise_panel(sight.hub.base, sight.tenants)


async def _leases(sight: Sight, asked: Asked) -> View:
    return await leases_panel(sight.hub.base, sight.tenants)


async def _scaling(sight: Sight, asked: Asked) -> View:
    return await scaling_panel(sight.hub.base, sight.tenants)


LEASES_S = 5.0
"""Ages of ten thousand leases are as many reads: the store is spared them for so long."""
PANELS = (
    Panel(
        "health",
        "Health",
        HealthPanel,
        _health,
        "Whether each part of the hub is well, and if not what to do.",
    ),
    Panel(
        "fleet",
        "Workers and queues",
        FleetPanel,
        _fleet,
        "Workers by state, agents, queues and leases, of each tenant.",
    ),
    Panel(
        "promise",
        "High priority",
        PromisePanel,
        _promise,
        "Whether 99 of 100 tasks of high priority are accepted within CHIMERA_SLO_S.",
        wide=False,
    ),
    Panel(
        "leases",
        "Leases by age",
        LeasesPanel,
        _leases,
        "Tasks under lease by how long they have been.",
        fresh_s=LEASES_S,
        wide=False,
    ),
    Panel(
        "scaling",
        "Scale events",
        ScalingPanel,
        _scaling,
        "When the number of workers was last changed, and why.",
        wide=False,
    ),
)


@router.get("/dashboard/fleet", openapi_extra=needs("read", of="both"))
async def page(request: Request, viewer: ByViewer) -> Response:
    """The page."""
    asked = Asked(tenant=viewer.tenant)
    return await dashboard_page(
        request, viewer, "fleet.html", panels=await fragments(request, viewer, dict.fromkeys(PANELS, asked))
    )
