"""The list of missions, and each mission's pages: itself, its tasks, its results."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from chimera.core.mission import MissionStatus
from chimera.dashboard.payload import line
from chimera.errors import NotFound
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard import missionacts
from chimera.serving.gateway.dashboard.missionpanels import (
    COURSE,
    HEAD,
    LIST,
    MOST_ID,
    MOST_MISSION_ID,
    PANELS,
    RESULTS,
    SCENE,
    STEPS,
    TASK,
    TASKS,
    AskedList,
    AskedMission,
    AskedResults,
    AskedScene,
    AskedTask,
    AskedTasks,
    whose_mission,
)
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.page import dashboard_page
from chimera.serving.gateway.dashboard.panels import Sight, asked_of, fragments
from chimera.serving.gateway.dashboard.session import ByViewer, PageRoute
from chimera.serving.gateway.dashboard.viewer import Viewer
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.routes.missions import results_of
from chimera.store.tasks import mission_of

__all__ = ["ENTRY", "PANELS", "router"]

ENTRY = Entry("Missions", "/dashboard/missions", "m", 40)
pages = APIRouter(prefix="/dashboard/missions", route_class=PageRoute, include_in_schema=False)
READ = needs("read", of="both")


@pages.get("", openapi_extra=READ)
async def missions(request: Request, viewer: ByViewer, asked: Annotated[AskedList, Query()]) -> Response:
    """The list."""
    panels = await fragments(request, viewer, {LIST: asked})
    return await dashboard_page(
        request, viewer, "missions.html", panels=panels, asked=asked, statuses=list(MissionStatus)
    )


@pages.get("/{mission_id}", openapi_extra=READ)
async def mission(
    mission_id: str,
    request: Request,
    viewer: ByViewer,
    at: Annotated[int | None, Query(ge=0)] = None,
    status: Annotated[str, Query(max_length=16)] = "",
    layers: Annotated[str, Query(max_length=9)] = "",
    page: Annotated[int, Query(ge=0)] = 0,
    lanes: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """A mission. `at`: its moment behind so many events; the rest say which tasks are listed."""
    if (elsewhere := await _elsewhere(request, viewer, mission_id)) is not None:
        return elsewhere
    tenant = viewer.tenant
    mission = {"tenant": tenant, "mission": _id(mission_id)}
    one = AskedMission(**mission)
    tasks = asked_of(AskedTasks, **mission, status=status, layers=layers, page=page)
    panels = await fragments(
        request,
        viewer,
        {
            HEAD: one,
            SCENE: AskedScene(**mission, at=at),
            COURSE: asked_of(AskedTasks, **mission, layers=layers, page=lanes),
            STEPS: one,
            TASKS: tasks,
        },
    )
    return await dashboard_page(
        request, viewer, "mission.html", panels=panels, mission_id=mission_id, tenant=tenant, at=at
    )


@pages.get("/{mission_id}/tasks/{task_id}", openapi_extra=READ)
async def task(mission_id: str, task_id: str, request: Request, viewer: ByViewer) -> Response:
    """One of its tasks."""
    if (elsewhere := await _elsewhere(request, viewer, mission_id)) is not None:
        return elsewhere
    if mission_of(task_id) != mission_id or len(task_id) > MOST_ID:
        raise NotFound(f"mission {line(mission_id, 64)!r} has no task {line(task_id, MOST_ID)!r}")
    panels = await fragments(request, viewer, {TASK: AskedTask(tenant=viewer.tenant, task=task_id)})
    return await dashboard_page(
        request,
        viewer,
        "task.html",
        panels=panels,
        mission_id=mission_id,
        task_id=task_id,
        tenant=viewer.tenant,
    )


@pages.get("/{mission_id}/results", openapi_extra=READ)
async def results(
    mission_id: str, request: Request, viewer: ByViewer, after: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Its results."""
    if (elsewhere := await _elsewhere(request, viewer, mission_id)) is not None:
        return elsewhere
    asked = asked_of(AskedResults, tenant=viewer.tenant, mission=_id(mission_id), after=after)
    panels = await fragments(request, viewer, {RESULTS: asked})
    return await dashboard_page(
        request, viewer, "results.html", panels=panels, mission_id=mission_id, tenant=viewer.tenant
    )


@pages.get("/{mission_id}/results.ndjson", openapi_extra=READ)
async def lines(mission_id: str, request: Request, viewer: ByViewer) -> Response:
    """The same as the API streams them, to be kept as a file."""
    if (elsewhere := await _elsewhere(request, viewer, mission_id)) is not None:
        return elsewhere
    async with promptly():
        reading = await viewer.hub.base.of(viewer.tenant).readings.open(mission_id)
    # The id was found, so it is one of ours: nothing of it needs a quote.
    headers = {"Content-Disposition": f'attachment; filename="{mission_id}.ndjson"'}
    return StreamingResponse(results_of(reading, 0), media_type="application/x-ndjson", headers=headers)


def _id(mission_id: str) -> str:
    """The same; raises NotFound for what can be no mission's."""
    if len(mission_id) > MOST_MISSION_ID:
        raise NotFound(f"there is no mission {line(mission_id, MOST_MISSION_ID)!r}")
    return mission_id


async def _elsewhere(request: Request, viewer: Viewer, mission_id: str) -> Response | None:
    """For who looks at all tenants: the same page, of the tenant whose mission it is."""
    if viewer.tenant:
        return None
    async with promptly():
        names = await viewer.hub.base.tenants.names()
        owner = await whose_mission(Sight(viewer.hub, names, whole=True), mission_id)
    query = urlencode({**request.query_params, "tenant": owner})
    return Response(status_code=303, headers={"Location": f"{request.url.path}?{query}"})


router = APIRouter()
router.include_router(pages)
router.include_router(missionacts.router)
