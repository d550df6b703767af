"""The page of costs: spend, brake, refusals, what money went to; and a person's word on the brake."""

from __future__ import annotations

import uuid
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationError

from chimera.core.brake import MAX_OVERRIDE_S
from chimera.core.report import as_csv
from chimera.core.usage import By
from chimera.core.views import View
from chimera.dashboard.brake import BrakePanel, brake_panel, what_stops
from chimera.dashboard.breakdown import CUTS, BreakdownPanel, Days, question
from chimera.dashboard.flags import FlagsPanel, flags_panel
from chimera.dashboard.spend import SpendPanel, spend_panel
from chimera.errors import InvalidRequest
from chimera.runtime.spending import report
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.page import dashboard_page
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Sight, fragments, panels_of
from chimera.serving.gateway.dashboard.session import ByViewer, PageRoute, fields_of
from chimera.serving.gateway.dashboard.viewer import Viewer
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.problems import invalid_request
from chimera.serving.gateway.routes.governor import Override, Word, ordered
from chimera.serving.gateway.routes.spend import Acknowledgement, acknowledged
from chimera.store.brakes import MAX_REASON_CHARS, Order

PATH = "/dashboard/costs"
ENTRY = Entry("Costs", PATH, "c", 20)
router = APIRouter(route_class=PageRoute, include_in_schema=False)


class Cut(Asked):
    """What money is told apart by, and how far back."""

    by: By = Field(By.MODEL, description="model, agent, mission or day.")
    days: Days = Field(Days.WEEK, description="1, 7 or 30.")


async def _spend(sight: Sight, asked: Asked) -> View:
    return await spend_panel(sight.hub.base, sight.tenants, whole=sight.whole)


async def _brake(sight: Sight, asked: Asked) -> View:
    return await brake_panel(sight.hub.base, sight.tenants, whole=sight.whole)


async def _flags(sight: Sight, asked: Asked) -> View:
    return await flags_panel(sight.hub.base, sight.tenants)


async def _breakdown(sight: Sight, asked: Cut) -> View:
    if sight.whole:
        raise InvalidRequest("say whose money is meant: ?tenant=NAME")
    hub = sight.hub
    return await hub.breakdowns.panel(hub.base, hub.reports, sight.tenants[0], asked.by, asked.days)


SPEND = Panel(
    "spend", "Spend", SpendPanel, _spend, "What is used of each limit, how fast, and where that leads."
)
BRAKE = Panel("brake", "Brake", BrakePanel, _brake, "Where brakes stand, why, and how they came there.")
FLAGS = Panel("flags", "Refused by limits", FlagsPanel, _flags, "Refusals that nobody has acknowledged.")
BREAKDOWN = Panel(
    "breakdown",
    "Where it goes",
    BreakdownPanel,
    _breakdown,
    "What a tenant's money went to; made again now and then, for it is read from the recorder.",
    asked=Cut,
)
PANELS = (SPEND, BRAKE, FLAGS, BREAKDOWN)


@router.get(PATH, openapi_extra=needs("read", of="both"))
async def page(
    request: Request,
    viewer: ByViewer,
    by: By = By.MODEL,
    days: Annotated[Days, Query()] = Days.WEEK,
    told: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The page."""
    asked = Asked(tenant=viewer.tenant)
    wanted: dict[Panel, Asked] = {SPEND: asked, BRAKE: asked, FLAGS: asked}
    if viewer.tenant:
        wanted[BREAKDOWN] = Cut(tenant=viewer.tenant, by=by, days=days)
    return await dashboard_page(
        request,
        viewer,
        "costs.html",
        panels=await fragments(request, viewer, wanted),
        by=by,
        days=days,
        cuts=CUTS,
        spans=tuple(Days),
        told=told if told in {*Order, "seen"} else "",
    )


@router.get(f"{PATH}.csv", openapi_extra=needs("read", of="both"))
async def csv(viewer: ByViewer, by: By = By.MODEL, days: Annotated[Days, Query()] = Days.WEEK) -> Response:
    """What money went to, as CSV: every row that a report has."""
    tenant = viewer.one
    async with viewer.hub.reports.one(tenant):
        found = await report(viewer.hub.base, tenant, question(by, days))
    name = f"chimera-{tenant}-{by}-{days}d.csv"
    return Response(
        "".join(as_csv(found.rows, found.by)),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get(f"{PATH}/brake/{{order}}", openapi_extra=needs("operate", of="both"))
async def confirm(request: Request, viewer: ByViewer, order: Order) -> Response:
    """What an order on the brake would stop or let go on, and the form that gives it."""
    async with promptly():
        stops = await what_stops(viewer.hub.base, viewer.one)
    return await dashboard_page(
        request,
        viewer,
        "brake.html",
        order=order,
        stops=stops,
        operation=uuid.uuid4().hex,
        most_reason=MAX_REASON_CHARS,
        most_minutes=MAX_OVERRIDE_S // 60,
    )


@router.post("/dashboard/act/brake/{order}", openapi_extra=needs("operate", of="both"))
async def act(request: Request, viewer: ByViewer, order: Order) -> Response:
    """Give the order, as `POST /v1/governor/{order}` does."""
    said = fields_of(request)
    try:
        if order is Order.OVERRIDE:
            word: Word = Override.model_validate(
                {"reason": said.get("reason", ""), "minutes": said.get("minutes", "")}
            )
        else:
            word = Word(reason=said.get("reason", ""))
    except ValidationError as exc:
        raise invalid_request(exc.errors(), said) from exc
    seconds = word.minutes * 60 if isinstance(word, Override) else 0
    await ordered(viewer.caller, viewer.tenant, order, word, said.get("operation") or None, seconds)
    return _back(request, viewer, order)


@router.post("/dashboard/act/flags", openapi_extra=needs("operate", of="both"))
async def acknowledge(request: Request, viewer: ByViewer) -> Response:
    """Say that flags are seen, as `POST /v1/spend/flags/ack` does."""
    said = fields_of(request)
    level, comment = said.get("level", ""), said.get("comment", "")
    try:
        seen = Acknowledgement(levels=(level,) if level else (), all=not level, comment=comment)
    except ValidationError as exc:
        raise invalid_request(exc.errors(), said) from exc
    stores = viewer.hub.base.of(viewer.one)
    await acknowledged(viewer.caller, stores, seen, said.get("operation") or None)
    return _back(request, viewer, "seen")


def _back(request: Request, viewer: Viewer, told: str) -> Response:
    """To the page, which says and shows that it is done."""
    panels_of(request).forget(viewer.tenant)
    said = {"told": told, **({"tenant": viewer.tenant} if viewer.of_fleet else {})}
    return Response(status_code=303, headers={"Location": f"{PATH}?{urlencode(said)}"})
