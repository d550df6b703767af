"""Tasks, and the reviews of those that wait for a human."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from chimera.core.mistakes import Counted
from chimera.core.report import ReviewPage
from chimera.core.task import TaskStatus
from chimera.core.verdict import HUMAN, Decision, Verdict
from chimera.core.views import ReviewView, TaskView, WhyView
from chimera.errors import Conflict, NotFound
from chimera.runtime.base import TenantStores
from chimera.runtime.spending import flag_view
from chimera.serving.gateway.answers import Limit, Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.listing import listed
from chimera.serving.gateway.reasons import reasons
from chimera.serving.gateway.render import action_view, dependencies, review_view, task_view
from chimera.store.readings import Reading
from chimera.store.tasks import mission_of

tasks = APIRouter(prefix="/v1/tasks", tags=["tasks"], route_class=Guarded, dependencies=[KEY])
reviews = APIRouter(prefix="/v1/reviews", tags=["reviews"], route_class=Guarded, dependencies=[KEY])


MOST_COMMENT = 20_000


class Answer(Counted):
    """A human's answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    comment: str = Field(
        "",
        max_length=MOST_COMMENT,
        description="Kept with the verdict; of a rejection, feedback to the next attempt.",
    )


async def _task(caller: Caller, task_id: str) -> TaskView:
    async with promptly():
        reading = await _mission_of(caller, task_id)
        record, actions = await reading.task(task_id)
        inputs = await reading.results(dependencies(record))
    return task_view(record, reading.mission, inputs, [action_view(one, caller.tenant) for one in actions])


async def _mission_of(caller: Caller, task_id: str) -> Reading:
    try:
        return await caller.stores.readings.open(mission_of(task_id))
    except NotFound:
        raise NotFound(f"there is no task {task_id!r}") from None


@tasks.get("/{task_id}", response_model=TaskView, openapi_extra=needs("read"))
async def task(task_id: str, caller: ByCaller) -> Response:
    """One task, with the results it takes in, its verdicts, its actions and what it cost."""
    return answer(await _task(caller, task_id))


@tasks.get("/{task_id}/why", response_model=WhyView, openapi_extra=needs("read"))
async def why_it_waits(task_id: str, caller: ByCaller) -> Response:
    """What holds a task: its place in line, and which of dependency, pause, suspension, budget, limit,
    capacity, a later try, the judge, a human or planning it is; with the figures, and what to do."""
    async with promptly():
        reading = await _mission_of(caller, task_id)
        reason = await reasons(caller.hub.base, caller.tenant, reading)
        return answer(await reason(task_id))


@reviews.get("", response_model=ReviewPage, openapi_extra=needs("read"))
async def inbox(caller: ByCaller, limit: Limit = 100) -> Response:
    """What waits for a human, longest waiting first. Answer some to see more than a hundred. Beside it what
    limits refused, until somebody acknowledges it."""
    stores = caller.stores

    async def read(some: Sequence[str]) -> dict[str, ReviewView]:
        records = await stores.tasks.get_many(some)
        ids = list(dict.fromkeys(record.mission_id for record in records))
        missions = dict(zip(ids, await stores.missions.get_many(ids), strict=True))
        return {record.task_id: review_view(record, missions[record.mission_id]) for record in records}

    async with promptly():
        views, damaged = await listed(caller, await stores.reviews.inbox(limit), read)
        flags = tuple(map(flag_view, await stores.flags.all()))
    return answer(ReviewPage(items=views, damaged=damaged, flags=flags))


@reviews.get("/{task_id}", response_model=ReviewView, openapi_extra=needs("read"))
async def review(task_id: str, caller: ByCaller) -> Response:
    """One task that waits for a human."""
    async with promptly():
        reading = await _mission_of(caller, task_id)
        record, _ = await reading.task(task_id)
    if record.status != TaskStatus.ESCALATED:
        raise Conflict(
            f"task {task_id} does not wait for a human: it is {record.status}; "
            "`chimera review list` shows what waits"
        )
    return answer(review_view(record, reading.mission))


@reviews.post("/{task_id}/approve", response_model=TaskView, openapi_extra=needs("operate"))
async def approve(
    task_id: str, caller: ByCaller, said: Answer | None = None, operation: Operation = None
) -> Response:
    """Accept the result: it is committed in the same step. Answers with the task."""
    return await _answer(caller, task_id, Decision.ACCEPT, said, operation)


@reviews.post("/{task_id}/reject", response_model=TaskView, openapi_extra=needs("operate"))
async def reject(
    task_id: str, caller: ByCaller, said: Answer | None = None, operation: Operation = None
) -> Response:
    """Reject the result: it is tried again with the comment as feedback, or fails on its last attempt."""
    return await _answer(caller, task_id, Decision.REJECT, said, operation)


async def _answer(
    caller: Caller,
    task_id: str,
    decision: Literal[Decision.ACCEPT, Decision.REJECT],
    said: Answer | None,
    operation: str | None,
) -> Response:
    await answered(caller, caller.stores, task_id, decision, said, operation)
    return answer(await _task(caller, task_id))


async def answered(
    caller: Caller,
    stores: TenantStores,
    task_id: str,
    decision: Literal[Decision.ACCEPT, Decision.REJECT],
    said: Answer | None,
    operation: str | None,
) -> None:
    """Give a caller's answer to a review of a tenant.

    Raises:
        NotFound: there is no such task.
        Conflict: it waits no more, and who answered it; or it has no result to approve.
        StaleVerdict, InvalidTransition: its mission moved on, or is archived.
    """
    async with stores.readings.changing(mission_of(task_id)), promptly():
        now_us = await stores.missions.now_us()
        verdict = Verdict(
            decision=decision,
            confidence=1.0 if decision is Decision.ACCEPT else 0.0,
            feedback=said.comment if said else "",
            judge=f"{HUMAN}{caller.principal}",
            at_ms=now_us // 1000,
        )
        await stores.reviews.answer(
            task_id,
            operation or uuid.uuid4().hex,
            verdict=verdict,
            by=str(caller.principal),
            max_stale=caller.hub.base.settings.max_stale,
        )
