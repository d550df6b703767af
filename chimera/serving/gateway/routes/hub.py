"""What the hub offers a tenant: agents, fleet, the mission's schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter, Response

from chimera.core.mission import MissionFile, MissionSpec
from chimera.core.views import AgentView, FleetView, Page
from chimera.serving.gateway.answers import answer
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.render import worker_view

router = APIRouter(prefix="/v1", tags=["hub"], route_class=Guarded, dependencies=[KEY])

INBOX_COUNTED = 10_000


@router.get("/agents", response_model=Page[AgentView], openapi_extra=needs("read"))
async def agents(caller: ByCaller) -> Response:
    """Agents that missions may name."""
    async with promptly():
        found = await caller.hub.base.catalogue.all()
    views = tuple(AgentView.model_validate({**about, "name": name}) for name, about in found.items())
    return answer(Page[AgentView](items=views))


@router.get("/fleet", response_model=FleetView, openapi_extra=needs("read"))
async def fleet(caller: ByCaller) -> Response:
    """The tenant's own workers, and the health of the hub."""
    stores = caller.stores
    async with promptly():
        said = await stores.tasks.workers()
        reviews = await stores.reviews.waiting()
        inbox = len(await stores.reviews.inbox(INBOX_COUNTED))
    workers = tuple(worker_view(worker, heartbeat) for worker, heartbeat in said.items())
    return answer(
        FleetView(
            tenant=caller.tenant,
            workers=workers,
            slots=sum(worker.slots for worker in workers),
            busy=sum(worker.busy for worker in workers),
            reviews=reviews,
            inbox=inbox,
            hub=await caller.hub.health(),
        )
    )


@router.get("/schema/mission", openapi_extra=needs("read"))
async def schema(caller: ByCaller) -> dict[str, Any]:
    """JSON Schemas (2020-12): `file` is what people write, `spec` what `POST /v1/missions` takes."""
    return _schemas()


@cache
def _schemas() -> dict[str, Any]:
    return {"file": MissionFile.model_json_schema(), "spec": MissionSpec.model_json_schema()}
