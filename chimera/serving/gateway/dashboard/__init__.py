"""The dashboard: pages for people, in a browser, behind a session of their own."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Response

from chimera.errors import NotFound
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard import fleet, login, static
from chimera.serving.gateway.dashboard.panels import Panels, routers
from chimera.serving.gateway.dashboard.session import PageRoute
from chimera.serving.gateway.hub import Hub

PAGES = (fleet,)
"""Modules of pages: each has a `router`, its `PANELS`, and its `ENTRY` in the navigation."""

rest = APIRouter(route_class=PageRoute, include_in_schema=False)


@rest.get("/dashboard", openapi_extra=needs("read", of="both"))
async def home() -> Response:
    """The first page."""
    return Response(status_code=303, headers={"Location": fleet.ENTRY.path})


@rest.get("/dashboard/{path:path}", openapi_extra=needs("read", of="both"))
async def nothing(path: str) -> Response:
    """Whatever else is asked for."""
    raise NotFound(f"there is no page /dashboard/{path}")


def install(app: FastAPI, hub: Hub) -> None:
    """Add the dashboard's routes to the gateway's app, and what they share to its state."""
    app.state.panels = Panels(hub)
    app.state.nav = tuple(sorted((page.ENTRY for page in PAGES), key=lambda entry: entry.rank))
    for_keys, for_pages = routers([panel for page in PAGES for panel in page.PANELS])
    for router in (
        static.router,
        login.public,
        login.router,
        for_keys,
        for_pages,
        *(page.router for page in PAGES),
        rest,
    ):
        app.include_router(router)
