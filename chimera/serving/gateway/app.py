"""The app: routes, errors and envelope put together."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from chimera.runtime.chats import Chats
from chimera.serving.gateway import dashboard, problems
from chimera.serving.gateway.crowd import Crowd, Entrance
from chimera.serving.gateway.dashboard.headers import Sealed
from chimera.serving.gateway.envelope import Envelope
from chimera.serving.gateway.hub import Hub
from chimera.serving.gateway.mcpdoor import PATH, McpDoor
from chimera.serving.gateway.routes import (
    actions,
    audit,
    chat,
    estimates,
    governor,
    history,
    keys,
    limits,
    missions,
    probes,
    recorder,
    sinks,
    spend,
    streams,
    submissions,
    tasks,
    tenants,
)
from chimera.serving.gateway.routes import hub as hub_routes
from chimera.serving.gateway.streams import Streams
from chimera.serving.gateway.throttle import Throttle
from chimera.version import __version__

DESCRIPTION = (
    "Fleets of AI agents for many tenants: kept alive, judged and within budget. "
    "Errors are `application/problem+json`; money is in micro-dollars; instants are UTC."
)

PROBES = frozenset(route.path for route in probes.router.routes if isinstance(route, APIRoute))


def create_app(hub: Hub) -> FastAPI:
    """The HTTP API over a hub. It owns nothing of it: whoever opened the hub closes it.

    Of its own it has `state.chats`: whoever made the app closes that, before the hub.
    """
    app = FastAPI(title="Chimera", version=__version__, description=DESCRIPTION)
    app.state.hub = hub
    app.state.throttle = Throttle(hub.base.redis, hub.base.settings.tenant_quota)
    app.state.streams = Streams(hub.base, hub.max_streams, hub.max_tenant_streams)
    app.state.chats = Chats(hub.base, f"gateway-{os.getpid()}")
    problems.install(app)
    # The last one added is the outermost: what the entrance turns away has an id and is counted too.
    app.add_middleware(Entrance, crowd=Crowd(hub.max_requests, hub.max_tenant_requests), aside=PROBES)
    app.add_middleware(Envelope, metrics=hub.metrics)
    app.add_middleware(Sealed)
    for router in (
        probes.router,
        submissions.router,
        estimates.router,
        missions.router,
        actions.router,
        streams.router,
        recorder.router,
        tasks.tasks,
        tasks.reviews,
        spend.router,
        hub_routes.router,
        tenants.router,
        keys.router,
        audit.router,
        limits.router,
        governor.router,
        history.router,
        sinks.router,
        chat.router,
        chat.completions,
    ):
        app.include_router(router)
    app.router.routes.append(Route(PATH, McpDoor(app, hub.base.settings), include_in_schema=False))
    dashboard.install(app, hub)
    return app
