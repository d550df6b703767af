"""The inbox, and one review of it: looked at, approved or rejected, by mouse or by keys alone."""

from __future__ import annotations

import re
import sys
import uuid
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationError

from chimera.core.verdict import Decision
from chimera.core.views import View
from chimera.dashboard.inbox import InboxPanel, inbox_panel, neighbours
from chimera.dashboard.payload import laid_out, line
from chimera.dashboard.review import (
    ReviewPanel,
    StandingPanel,
    payload_of,
    review_panel,
    standing_panel,
)
from chimera.errors import Conflict, InvalidTransition, NotFound, StaleVerdict
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard.missionpanels import MOST_ID
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.page import dashboard_page
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Sight, fragments, panels_of
from chimera.serving.gateway.dashboard.session import ByViewer, PageRoute, fields_of
from chimera.serving.gateway.dashboard.viewer import Viewer
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.problems import invalid_request
from chimera.serving.gateway.routes.tasks import MOST_COMMENT, Answer, answered
from chimera.store.inboxes import Waiting

PATH = "/dashboard/reviews"
ENTRY = Entry("Reviews", PATH, "r", 50)
TOLD = re.compile(r"(approved|rejected):([0-9A-Za-z._-]{1,128})", re.ASCII)
router = APIRouter(route_class=PageRoute, include_in_schema=False)


class Sought(Asked):
    """Which page of the inbox, of what."""

    page: int = Field(1, ge=1, le=1_000)
    mission: str = Field("", max_length=64, description="Only this mission's.")
    topic: str = Field("", max_length=100, description="Only those in which this sensitive topic was found.")


class OfTask(Asked):
    """Which task."""

    task: str = Field(min_length=1, max_length=MOST_ID, description="The task's id.")


async def _inbox(sight: Sight, asked: Sought) -> View:
    return await inbox_panel(
        sight.hub.base, sight.tenants, page=asked.page, mission_id=asked.mission, topic=asked.topic
    )


async def _review(sight: Sight, asked: OfTask) -> View:
    return await review_panel(sight.hub.base, _only(sight), asked.task)


async def _standing(sight: Sight, asked: OfTask) -> View:
    return await standing_panel(sight.hub.base, _only(sight), asked.task)


def _only(sight: Sight) -> str:
    if sight.whole:
        raise NotFound("a task is of one tenant: ?tenant=NAME")
    return sight.tenants[0]


INBOX = Panel(
    "inbox", "Waiting for a human", InboxPanel, _inbox, "What waits for a human, longest first.", asked=Sought
)
REVIEW = Panel(
    "review", "Review", ReviewPanel, _review, "A task, and all that is needed to judge it.", asked=OfTask
)
STANDING = Panel(
    "standing", "Answer", StandingPanel, _standing, "Whether a task waits for an answer.", asked=OfTask
)
PANELS = (INBOX, REVIEW, STANDING)


@router.get(PATH, openapi_extra=needs("read", of="both"))
async def page(
    request: Request,
    viewer: ByViewer,
    asked: Annotated[Sought, Query()],
    told: Annotated[str, Query(max_length=160)] = "",
) -> Response:
    """The inbox."""
    return await dashboard_page(
        request,
        viewer,
        "reviews.html",
        panels=await fragments(request, viewer, {INBOX: asked}),
        asked=asked,
        told=_told(told),
    )


@router.get(f"{PATH}/{{task_id}}", openapi_extra=needs("read", of="both"))
async def review(
    request: Request, viewer: ByViewer, task_id: str, told: Annotated[str, Query(max_length=160)] = ""
) -> Response:
    """One review."""
    return await _page(request, viewer, task_id, told=told)


@router.get(f"{PATH}/{{task_id}}/{{which}}", openapi_extra=needs("read", of="both"))
async def download(viewer: ByViewer, task_id: str, which: Literal["input", "result"]) -> Response:
    """A whole input or result, as a file: never to be shown by a browser."""
    async with promptly():
        value = await payload_of(viewer.hub.base, viewer.one, task_id, which)
    text = isinstance(value, str)
    whole = value if text else laid_out(value, sys.maxsize)[0]
    name = f"{re.sub(r'[^0-9A-Za-z._-]', '_', task_id)[:100]}-{which}.{'txt' if text else 'json'}"
    return Response(
        whole.encode("utf-8", "replace"),  # half a character, which no encoding has, is a question mark
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post("/dashboard/act/review/{task_id}/{decision}", openapi_extra=needs("operate", of="both"))
async def act(
    request: Request, viewer: ByViewer, task_id: str, decision: Literal["approve", "reject"]
) -> Response:
    """Answer a review, as `POST /v1/reviews/{task_id}/{decision}` does; then on to the next that waits."""
    said = fields_of(request)
    try:
        answer = Answer(comment=said.get("comment", "").replace("\r\n", "\n"))
    except ValidationError as exc:
        raise invalid_request(exc.errors(), said) from exc
    stores = viewer.hub.base.of(viewer.one)
    _, following = await _around(viewer, task_id)
    made: Literal[Decision.ACCEPT, Decision.REJECT] = (
        Decision.ACCEPT if decision == "approve" else Decision.REJECT
    )
    panels = panels_of(request)
    try:
        await answered(viewer.caller, stores, task_id, made, answer, said.get("operation") or None)
    except (Conflict, StaleVerdict, InvalidTransition) as exc:
        panels.forget(viewer.tenant)
        shown = await _page(request, viewer, task_id, problem=str(exc), comment=answer.comment)
        shown.status_code = 409
        return shown
    panels.forget(viewer.tenant)
    done = {"told": f"{'approved' if decision == 'approve' else 'rejected'}:{task_id}"}
    return Response(status_code=303, headers={"Location": _to(viewer, following, **done)})


async def _page(
    request: Request, viewer: Viewer, task_id: str, *, told: str = "", problem: str = "", comment: str = ""
) -> Response:
    tenant = viewer.one
    if len(task_id) > MOST_ID:
        raise NotFound(f"there is no task {line(task_id, MOST_ID)!r}")
    asked = OfTask(tenant=tenant, task=task_id)
    async with promptly():  # asked anew, not kept: whoever came second is shown who came first
        found = await review_panel(viewer.hub.base, viewer.tenant, task_id)
    before, following = await _around(viewer, task_id)
    return await dashboard_page(
        request,
        viewer,
        "review.html",
        panels=await fragments(request, viewer, {STANDING: asked}),
        review=found,
        before=before and _to(viewer, before),
        following=following and _to(viewer, following),
        back=_to(viewer, None),
        query=urlencode(asked.model_dump(exclude_defaults=True)),
        operation=uuid.uuid4().hex,
        most_comment=MOST_COMMENT,
        told=_told(told),
        problem=problem,
        comment=comment,
    )


async def _around(viewer: Viewer, task_id: str) -> tuple[Waiting | None, Waiting | None]:
    async with promptly():
        return await neighbours(viewer.hub.base, [viewer.one], task_id)


def _to(viewer: Viewer, one: Waiting | None, **said: str) -> str:
    """Where a review is; without one the inbox."""
    query = {**({"tenant": viewer.tenant} if viewer.of_fleet else {}), **said}
    path = PATH if one is None else f"{PATH}/{quote(one.task_id, safe='')}"
    return path + (f"?{urlencode(query)}" if query else "")


def _told(said: str) -> tuple[str, str] | None:
    """What was just done to which task, as an address may say it."""
    match = TOLD.fullmatch(said)
    return None if match is None else (match[1], line(match[2], MOST_ID))
