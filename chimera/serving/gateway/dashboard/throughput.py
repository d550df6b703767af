"""The page of throughput."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from chimera.core.views import View
from chimera.dashboard.throughput import RatesPanel, Span, ThroughputPanel, throughput_panel
from chimera.serving.gateway.auth import needs
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.page import dashboard_page
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Sight, fragments
from chimera.serving.gateway.dashboard.session import ByViewer, PageRoute

PATH = "/dashboard/throughput"
ENTRY = Entry("Throughput", PATH, "t", 30)
router = APIRouter(route_class=PageRoute, include_in_schema=False)


class Within(Asked):
    """Over how long."""

    window: Span = Field(Span.FIVE_MINUTES, description="300, 900 or 3600 s.")


async def _throughput(sight: Sight, asked: Within) -> View:
    return await throughput_panel(sight.hub.base, sight.tenants, asked.window)


async def _rates(sight: Sight, asked: Asked) -> View:
    return await sight.hub.histories.rates(sight.hub.base, sight.tenants)


THROUGHPUT = Panel(
    "throughput",
    "What gets done",
    ThroughputPanel,
    _throughput,
    "Rates, latencies, verdicts, refusals and rescues of a window.",
    asked=Within,
)
RATES = Panel(
    "rates", "The last hour by the minute", RatesPanel, _rates, "What was done in each part of the last hour."
)
PANELS = (THROUGHPUT, RATES)


@router.get(PATH, openapi_extra=needs("read", of="both"))
async def page(
    request: Request, viewer: ByViewer, window: Annotated[Span, Query()] = Span.FIVE_MINUTES
) -> Response:
    """The page."""
    asked = {THROUGHPUT: Within(tenant=viewer.tenant, window=window), RATES: Asked(tenant=viewer.tenant)}
    return await dashboard_page(
        request,
        viewer,
        "throughput.html",
        panels=await fragments(request, viewer, asked),
        window=window,
        spans=tuple(Span),
    )
