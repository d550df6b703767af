"""For machines that look after the hub: alive, ready, metrics, version. No key is needed.

But for metrics, where CHIMERA_METRICS_OPEN says so: they name tenants.
"""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chimera.core.scope import Scope
from chimera.core.views import Health, ReadyView, VersionView
from chimera.errors import StoreError
from chimera.serving.gateway import archive, braked, figures
from chimera.serving.gateway.answers import answer
from chimera.serving.gateway.auth import FromHub, require_fleet
from chimera.serving.gateway.hub import promptly
from chimera.version import __version__

router = APIRouter(tags=["probes"])


@router.get("/healthz", response_model=Health)
async def alive() -> Response:
    """200 while this process answers at all; it asks nothing else."""
    return answer(Health(ok=True))


@router.get("/readyz", response_model=ReadyView, responses={503: {"model": ReadyView}})
async def ready(hub: FromHub) -> Response:
    """200 when the store answers and every part that work needs is well; else 503, with the parts."""
    parts = await hub.health()
    well = all(health.ok for name, health in parts.items() if name not in {*archive.PARTS, braked.CANARY})
    return answer(ReadyView(ready=well, parts=parts), 200 if well else 503)


@router.get("/metrics", response_class=Response)
async def metrics(hub: FromHub, request: Request) -> Response:
    """This process's requests, and what Redis counts of every tenant, in Prometheus' text format."""
    if not hub.base.settings.metrics_open:
        await require_fleet(request, Scope.READ)
    told = figures.of_parts(await hub.health())
    # A store that is away shows in its part; what this process counted is told all the same.
    with suppress(StoreError):
        async with promptly():
            told += await figures.read(hub.base)
    text = generate_latest(hub.metrics.registry) + figures.exposition(told).encode()
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/version", response_model=VersionView)
async def version() -> Response:
    """What answers here."""
    return answer(VersionView(version=__version__))
