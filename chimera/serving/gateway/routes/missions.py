"""Missions: submitted, listed, read, changed, ended; their tasks and results."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field, model_validator

from chimera.core.mistakes import Counted, at_most
from chimera.core.money import MAX_USD, microusd
from chimera.core.task import TaskStatus
from chimera.core.views import MissionView, Page, RedriveView, TaskView
from chimera.serving.gateway.answers import After, Limit, Operation, answer, position
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.intake import check_size
from chimera.serving.gateway.listing import listed
from chimera.serving.gateway.pages import scan
from chimera.serving.gateway.render import mission_view, result_lines, task_view
from chimera.store.readings import Reading

router = APIRouter(prefix="/v1/missions", tags=["missions"], route_class=Guarded, dependencies=[KEY])

AfterResult = Annotated[
    str, Query(max_length=64, description="Go on behind this: `next` of the last result that came.")
]


class Cancellation(Counted):
    """Why a mission is ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field("", max_length=2_000, description="In words; shown as the mission's reason.")


class Pause(Counted):
    """Why a mission is held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field("", max_length=2_000, description="In words; shown as the mission's reason.")


class Resumption(Counted):
    """How a mission goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget_usd: Decimal | None = Field(
        None,
        gt=0,
        le=MAX_USD,
        decimal_places=6,
        description="Its new budget, larger than before; needed when the budget ended it.",
    )


class Redrive(Counted):
    """Which failed tasks get a fresh set of attempts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=500, description="Task ids of the mission."),
        at_most(500),
    ]


class Edit(Counted):
    """What of a mission changes; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    goal: str | None = Field(None, min_length=1, max_length=20_000)
    context: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Edit:
        if self.goal is None and self.context is None:
            raise ValueError("nothing to change: give goal, context or both")
        return self


async def _view(caller: Caller, mission_id: str) -> MissionView:
    async with promptly():
        return mission_view(await caller.stores.readings.mission(mission_id), caller.tenant)


@router.get("", response_model=Page[MissionView], openapi_extra=needs("read"))
async def missions(
    caller: ByCaller,
    archived: Annotated[bool, Query(description="Those that are archived; else those that are not.")] = False,
    limit: Limit = 50,
    after: After = "",
) -> Response:
    """Missions, newest first. Finished ones are archived after a while: those are a list of their own."""
    readings, start = caller.stores.readings, 0 if archived else position(after)
    find = readings.find_archived if archived else readings.missions.find_many

    async def read(some: Sequence[str]) -> dict[str, MissionView]:
        found = await find(some)  # less those that were pruned just now
        return {one: mission_view(record, caller.tenant) for one, record in found.items()}

    async with promptly():
        if archived:
            ids = await readings.archived(before=after, most=limit + 1)
        else:
            ids = await readings.missions.list_ids(offset=start, most=limit + 1)
        views, damaged = await listed(caller, ids[:limit], read)
    following = None if len(ids) <= limit else ids[limit - 1] if archived else str(start + limit)
    return answer(Page[MissionView](items=views, next=following, damaged=damaged))


@router.get("/{mission_id}", response_model=MissionView, openapi_extra=needs("read"))
async def mission(mission_id: str, caller: ByCaller) -> Response:
    """One mission as it stands now."""
    return answer(await _view(caller, mission_id))


@router.patch("/{mission_id}", response_model=MissionView, openapi_extra=needs("submit"))
async def edit(mission_id: str, change: Edit, caller: ByCaller, operation: Operation = None) -> Response:
    """Change goal or context: state_version grows; work under way is done again, accepted results stand."""
    check_size("context", change.context, caller.hub.base.settings.max_input_bytes)
    async with caller.stores.readings.changing(mission_id), promptly():
        await caller.stores.missions.edit(
            mission_id,
            operation or uuid.uuid4().hex,
            by=str(caller.principal),
            goal=change.goal,
            context=change.context,
        )
    return answer(await _view(caller, mission_id))


@router.post("/{mission_id}/cancel", response_model=MissionView, openapi_extra=needs("submit"))
async def cancel(mission_id: str, caller: ByCaller, why: Cancellation | None = None) -> Response:
    """End a mission: nothing more starts, what is accepted stays. Twice is fine."""
    reason = why.reason if why else ""
    async with caller.stores.readings.changing(mission_id), promptly():
        await caller.stores.missions.cancel(mission_id, by=str(caller.principal), reason=reason)
    return answer(await _view(caller, mission_id))


@router.post("/{mission_id}/pause", response_model=MissionView, openapi_extra=needs("submit"))
async def pause(
    mission_id: str, caller: ByCaller, why: Pause | None = None, operation: Operation = None
) -> Response:
    """Hold a mission: nothing more is claimed or judged; what is under way is kept. Twice is fine."""
    async with caller.stores.readings.changing(mission_id), promptly():
        await caller.stores.missions.pause(
            mission_id,
            operation or uuid.uuid4().hex,
            by=str(caller.principal),
            reason=why.reason if why else "",
        )
    return answer(await _view(caller, mission_id))


@router.post("/{mission_id}/resume", response_model=MissionView, openapi_extra=needs("submit"))
async def resume(
    mission_id: str, caller: ByCaller, how: Resumption | None = None, operation: Operation = None
) -> Response:
    """Let a paused mission go on; or one that its budget ended, under a larger one."""
    budget = how.budget_usd if how else None
    async with caller.stores.readings.changing(mission_id), promptly():
        await caller.stores.missions.resume(
            mission_id,
            operation or uuid.uuid4().hex,
            by=str(caller.principal),
            budget_microusd=None if budget is None else microusd(budget),
        )
    return answer(await _view(caller, mission_id))


@router.post("/{mission_id}/redrive", response_model=RedriveView, openapi_extra=needs("submit"))
async def redrive(mission_id: str, what: Redrive, caller: ByCaller, operation: Operation = None) -> Response:
    """Give FAILED tasks a fresh set of attempts; tasks that did not fail are left as they are."""
    async with caller.stores.readings.changing(mission_id), promptly():
        count = await caller.stores.missions.redrive(
            mission_id, what.tasks, operation or uuid.uuid4().hex, by=str(caller.principal)
        )
    return answer(RedriveView(redriven=count, mission=await _view(caller, mission_id)))


@router.get("/{mission_id}/tasks", response_model=Page[TaskView], openapi_extra=needs("read"))
async def tasks(
    mission_id: str,
    caller: ByCaller,
    status: Annotated[TaskStatus | None, Query(description="Only those of this status.")] = None,
    limit: Limit = 50,
    after: After = "",
) -> Response:
    """Its tasks in the order planned.

    With a status, a page may hold fewer than `limit`, even none, and still have a `next`.
    ``context.inputs`` is empty here: ask for the one task.
    """
    async with promptly():
        reading = await caller.stores.readings.open(mission_id)
    found, following = await scan(reading.tasks, status, position(after), limit)
    views = tuple(task_view(record, reading.mission, {}) for record in found)
    return answer(Page[TaskView](items=views, next=following))


@router.get("/{mission_id}/results", response_class=StreamingResponse, openapi_extra=needs("read"))
async def results(mission_id: str, caller: ByCaller, after: AfterResult = "") -> StreamingResponse:
    """What is accepted so far, in the order planned: one ResultView a line (NDJSON).

    A connection that closes without its end means that the store went away: ask again, after `next` of the
    last line.
    """
    start = position(after)
    async with promptly():
        reading = await caller.stores.readings.open(mission_id)
    return StreamingResponse(results_of(reading, start), media_type="application/x-ndjson")


async def results_of(reading: Reading, start: int) -> AsyncGenerator[bytes, None]:
    """A mission's accepted results from a task's position on, as lines."""
    following: int | None = start
    while following is not None:
        async with promptly():
            batch = await reading.accepted(following)
        if batch.results:
            yield result_lines(batch.results, reading.mission.spec)
        following = batch.following
