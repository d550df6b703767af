"""The page that says whether the fleet is well."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from chimera.core.views import View
from chimera.dashboard.health import HealthPanel, health_panel
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.page import dashboard_page
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Sight, fragments
from chimera.serving.gateway.dashboard.session import ByViewer, PageRoute

ENTRY = Entry("Fleet", "/dashboard/fleet", "f", 10)
router = APIRouter(route_class=PageRoute, include_in_schema=False)


async def _health(sight: Sight, asked: Asked) -> View:
    return health_panel(await sight.hub.health())


HEALTH = Panel(
    "health", "Health", HealthPanel, _health, "Whether each part of the hub is well, and if not what to do."
)
PANELS = (HEALTH,)


@router.get("/dashboard/fleet", openapi_extra=needs("read", of="both"))
async def page(request: Request, viewer: ByViewer) -> Response:
    """The page."""
    asked = Asked(tenant=viewer.tenant)
    return await dashboard_page(
        request, viewer, "fleet.html", panels=await fragments(request, viewer, dict.fromkeys(PANELS, asked))
    )
