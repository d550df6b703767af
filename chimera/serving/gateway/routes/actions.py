"""Actions of a mission's accepted results: listed, and retried once they failed."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from chimera.core.action import ActionStatus
from chimera.core.mistakes import Counted, at_most
from chimera.core.views import ActionView, Page, RetryView
from chimera.serving.gateway.answers import After, Limit, Operation, answer, position
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.pages import scan
from chimera.serving.gateway.render import action_view, mission_view

router = APIRouter(prefix="/v1/missions", tags=["actions"], route_class=Guarded, dependencies=[KEY])


class Retry(Counted):
    """Which failed actions get a fresh set of tries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actions: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=500, description="Action ids of the mission."),
        at_most(500),
    ]


@router.get("/{mission_id}/actions", response_model=Page[ActionView], openapi_extra=needs("read"))
async def actions(
    mission_id: str,
    caller: ByCaller,
    status: Annotated[ActionStatus | None, Query(description="Only those of this status.")] = None,
    limit: Limit = 50,
    after: After = "",
) -> Response:
    """Actions of its accepted results, in the order accepted. What waits for a verdict is not among them.
    Those of an archived mission are in the order of its tasks.

    With a status, a page may hold fewer than `limit`, even none, and still have a `next`.
    """
    async with promptly():
        reading = await caller.stores.readings.open(mission_id)
    found, following = await scan(reading.actions, status, position(after), limit)
    views = tuple(action_view(record, caller.tenant) for record in found)
    return answer(Page[ActionView](items=views, next=following))


@router.post("/{mission_id}/actions/retry", response_model=RetryView, openapi_extra=needs("operate"))
async def retry(mission_id: str, what: Retry, caller: ByCaller, operation: Operation = None) -> Response:
    """Give FAILED actions a fresh set of tries, under the keys they had; others are left as they are."""
    async with caller.stores.readings.changing(mission_id), promptly():
        count = await caller.stores.actions.retry(
            mission_id, what.actions, operation or uuid.uuid4().hex, by=str(caller.principal)
        )
        mission = await caller.stores.readings.mission(mission_id)
    return answer(RetryView(retried=count, mission=mission_view(mission, caller.tenant)))
