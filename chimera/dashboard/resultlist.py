"""A mission's accepted results, a page at a time, in the order planned."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from pydantic import Field

from chimera.core.mission import MissionBase
from chimera.core.views import View
from chimera.dashboard.film import instant
from chimera.dashboard.links import task_href
from chimera.dashboard.payload import Payload, payload
from chimera.store.readings import Reading
from chimera.store.results import Accepted

PAGE = 20
MOST_READS = 50
"""So many looks of up to two hundred tasks each make a page, however few of them are accepted."""


class ResultRow(View):
    """An accepted result."""

    task_id: str
    href: str
    stage: str
    agent: str
    answers: bool = Field(description="No other task of the mission takes it in.")
    result: Any
    confidence: float
    attempts: int
    spent_microusd: int
    finished_at: datetime | None

    @property
    def name(self) -> str:
        """How its mission calls the task."""
        return self.task_id.partition(".")[2]

    @property
    def shown(self) -> Payload:
        """The result for people."""
        return payload(self.result)


class ResultList(View):
    """One page of results."""

    tenant: str
    mission_id: str
    still: bool
    after: int = Field(description="The position of a task that this page begins at.")
    next: int | None = Field(description="Goes into `after` for the page that follows; null at the end.")
    results: tuple[ResultRow, ...]


async def result_list(reading: Reading, *, tenant: str, after: int, over: bool) -> ResultList:
    """A page of results.

    Raises:
        CorruptRecord: one of them cannot be read.
    """
    found: list[Accepted] = []
    following: int | None = after
    for _ in range(MOST_READS):
        if following is None or len(found) > PAGE:
            break
        batch = await reading.accepted(following)
        found += batch.results
        following = batch.following
    if len(found) > PAGE:
        following = found[PAGE].position
    spec = reading.mission.spec
    return ResultList(
        tenant=tenant,
        mission_id=reading.mission.mission_id,
        still=over,
        after=after,
        next=following,
        results=tuple(_row(tenant, one, spec) for one in found[:PAGE]),
    )


def _row(tenant: str, one: Accepted, spec: MissionBase) -> ResultRow:
    stage = spec.stages.get(one.stage)
    return ResultRow(
        task_id=one.task_id,
        href=task_href(tenant, one.task_id),
        stage=one.stage,
        agent=stage.agent if stage else spec.agent,
        answers=one.answers,
        result=orjson.loads(one.result),
        confidence=one.confidence,
        attempts=one.attempt,
        spent_microusd=one.spent_microusd,
        finished_at=instant(one.finished_at_us) if one.finished_at_us else None,
    )
