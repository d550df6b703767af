"""What a mission will cost, before it is submitted."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from chimera.core.forecast import EstimateRequest, EstimateView
from chimera.core.mission import MissionBase
from chimera.errors import InvalidRequest
from chimera.runtime.estimating import estimated
from chimera.serving.gateway.answers import answer
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.intake import checked

router = APIRouter(prefix="/v1/missions", tags=["missions"], route_class=Guarded, dependencies=[KEY])


@router.post("/estimate", response_model=EstimateView, openapi_extra=needs("read"))
async def estimate(asked: EstimateRequest, caller: ByCaller) -> Response:
    """Low, likely and worst cost of a mission, against its budget and the limits in force. Nothing is stored.

    It is checked as a submit checks it. What each figure rests on, the tenant's own history or an assumption,
    stands beside it.
    """
    spec = MissionBase.model_construct(**{name: getattr(asked, name) for name in MissionBase.model_fields})
    async with promptly():
        agents = await caller.hub.base.catalogue.all()
    if problems := await asyncio.to_thread(checked, spec, agents):
        raise InvalidRequest("the mission cannot be taken", tuple(problems))
    async with caller.hub.reports.one(caller.tenant):
        found = await estimated(caller.hub.base, caller.tenant, spec, asked.measured, asked.every)
    return answer(EstimateView.of(found))
