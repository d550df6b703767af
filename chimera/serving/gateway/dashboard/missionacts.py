"""What a person may do to a mission: pause, resume, cancel, redrive. Each is the API's own call and scope."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from fastapi import APIRouter, Request, Response

from chimera.core.task import TaskStatus
from chimera.dashboard.film import CODES
from chimera.dashboard.films import TooLong
from chimera.errors import InvalidRequest
from chimera.serving.gateway.auth import Caller, needs
from chimera.serving.gateway.dashboard.panels import panels_of
from chimera.serving.gateway.dashboard.session import ByViewer, PartRoute, fields_of
from chimera.serving.gateway.dashboard.viewer import Viewer
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.routes.missions import (
    Cancellation,
    Pause,
    Redrive,
    Resumption,
    cancel,
    pause,
    redrive,
    resume,
)

router = APIRouter(prefix="/dashboard/act/missions", route_class=PartRoute, include_in_schema=False)
BATCH = 500
"""So many tasks one call redrives."""
FAILED = CODES.index(TaskStatus.FAILED)


@router.post("/{mission_id}/pause", openapi_extra=needs("submit"))
async def pause_it(mission_id: str, request: Request, viewer: ByViewer) -> Response:
    """Hold it."""
    await pause(mission_id, viewer.caller, Pause(reason=_reason(request)))
    return _done(request, viewer, mission_id)


@router.post("/{mission_id}/resume", openapi_extra=needs("submit"))
async def resume_it(mission_id: str, request: Request, viewer: ByViewer) -> Response:
    """Let it go on, under a larger budget where the form names one."""
    text = fields_of(request).get("budget_usd", "").strip().removeprefix("$").replace(",", "")
    await resume(mission_id, viewer.caller, _resumption(text) if text else None)
    return _done(request, viewer, mission_id)


@router.post("/{mission_id}/cancel", openapi_extra=needs("submit"))
async def cancel_it(mission_id: str, request: Request, viewer: ByViewer) -> Response:
    """End it."""
    await cancel(mission_id, viewer.caller, Cancellation(reason=_reason(request)))
    return _done(request, viewer, mission_id)


@router.post("/{mission_id}/redrive", openapi_extra=needs("submit"))
async def redrive_it(mission_id: str, request: Request, viewer: ByViewer) -> Response:
    """Give its failed tasks a fresh set of attempts: the one that the form names, or all of them."""
    named = fields_of(request).get("task", "")
    failed = [named] if named else await _failed(viewer.caller, mission_id)
    if not failed:
        raise InvalidRequest(f"no task of mission {mission_id} is FAILED: there is nothing to redrive")
    for first in range(0, len(failed), BATCH):
        await redrive(mission_id, Redrive(tasks=tuple(failed[first : first + BATCH])), viewer.caller)
    return _done(request, viewer, mission_id)


async def _failed(caller: Caller, mission_id: str) -> list[str]:
    """Ids of its failed tasks."""
    stores = caller.stores
    async with promptly():
        reading = await stores.readings.open(mission_id)
        try:
            film, whole = await caller.hub.films.film(caller.hub.base, caller.tenant, reading.mission)
        except TooLong as exc:
            raise InvalidRequest(
                "the mission is too large to be kept here: `chimera task list MISSION --status FAILED` names "
                "its failed tasks, `chimera task redrive` takes them"
            ) from exc
    if not whole:
        raise InvalidRequest("the flight recorder is still being read: try again in a moment")
    return [f"{mission_id}.{film.roster.name(number)}" for number in film.having([FAILED])]


def _resumption(text: str) -> Resumption:
    try:
        return Resumption(budget_usd=Decimal(text))
    except (InvalidOperation, ValueError) as exc:
        raise InvalidRequest(
            f"the budget {text[:40]!r} is no amount of USD: write 12.50, for example"
        ) from exc


def _reason(request: Request) -> str:
    reason = fields_of(request).get("reason", "").strip()
    if len(reason) > 2_000:
        raise InvalidRequest("a reason has 2,000 characters at most; nothing was changed")
    return reason


def _done(request: Request, viewer: Viewer, mission_id: str) -> Response:
    """Nothing, for a page that looks again by itself; the mission's page where no script runs."""
    panels_of(request).forget(viewer.tenant)
    if request.headers.get("hx-request"):
        return Response(status_code=204)
    return Response(status_code=303, headers={"Location": f"/dashboard/missions/{mission_id}"})
