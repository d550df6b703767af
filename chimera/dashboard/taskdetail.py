"""One task, with all that became of it: input, result, attempts, verdicts, actions, cost and events."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from chimera.core.event import Event, Position
from chimera.core.task import TaskStatus
from chimera.core.views import TaskView, View, WhyView
from chimera.dashboard.course import LaneView, lanes_of
from chimera.dashboard.film import Film
from chimera.dashboard.payload import Payload, payload
from chimera.runtime.base import TenantStores

MOST_READ = 20_000
"""So many of a mission's events are read to find those of one task."""
MOST_EVENTS = 200


class EventLine(View):
    """An entry of the flight recorder."""

    epoch: int
    seq: int
    at: datetime
    kind: str
    by: str
    details: dict[str, object]

    @property
    def said(self) -> str:
        """Its details, on one line."""
        return payload(self.details).head if self.details else ""


class TaskDetail(View):
    """A task."""

    tenant: str
    still: bool
    task: TaskView
    why: WhyView | None = Field(description="What holds it; null of one that is final.")
    lane: LaneView | None = Field(description="Where it stood over the time of its mission.")
    events: tuple[EventLine, ...] = Field(description="Of the flight recorder, oldest first.")
    more: bool = Field(description="There are events of it that are not shown here.")

    @property
    def name(self) -> str:
        """How its mission calls it."""
        return self.task.task_id.partition(".")[2]

    @property
    def input(self) -> Payload:
        """Its own input."""
        return payload(self.task.context.input)

    @property
    def inputs(self) -> dict[str, Payload]:
        """Results that it takes in."""
        return {task_id: payload(result) for task_id, result in self.task.context.inputs.items()}

    @property
    def context(self) -> Payload | None:
        """The mission's facts."""
        return payload(self.task.context.data) if self.task.context.data else None

    @property
    def result(self) -> Payload | None:
        """What it made."""
        return payload(self.task.result) if self.task.has_result else None

    @property
    def result_title(self) -> str:
        """What that is."""
        return "Accepted result" if self.task.status is TaskStatus.ACCEPTED else "Result under review"

    @property
    def actions(self) -> list[tuple[str, str, Payload]]:
        """Its actions: where each stands, what came of the last try, and what it is."""
        proposed = [("proposed", "waits for the verdict", payload(one)) for one in self.task.proposed]
        return proposed + [(one.status.lower(), one.answer, payload(one.action)) for one in self.task.actions]


async def task_detail(
    stores: TenantStores, film: Film | None, task: TaskView, *, tenant: str, why: WhyView | None, over: bool
) -> TaskDetail:
    """A task's page.

    Args:
        film: its mission's; None: it has none.
        over: its mission and all tasks of it are final.
    """
    events, more = await _events(stores, task)
    number = film.roster.number(task.task_id.partition(".")[2]) if film else None
    lane = lanes_of(film, tenant, [number])[0] if film and number is not None else None
    return TaskDetail(
        tenant=tenant, still=over, task=task, why=why, lane=lane, events=tuple(events), more=more
    )


async def _events(stores: TenantStores, task: TaskView) -> tuple[list[EventLine], bool]:
    """Its entries, from when it was made on; and whether there may be more."""
    found: list[EventLine] = []
    looked = 0
    after = Position.before(int(task.planned_at.timestamp() * 1000))
    async for _, lines in stores.recorder.pages(after=after, mission_id=task.mission_id):
        for _, event in lines:
            looked += 1
            if event.task_id == task.task_id:
                found.append(_line(event))
            if len(found) >= MOST_EVENTS or looked >= MOST_READ:
                return found, True
        if task.finished_at and lines and lines[-1][1].at > task.finished_at and found:
            # What settles late comes after its end: another page has it, and no more are read.
            return found, False
    return found, False


def _line(event: Event) -> EventLine:
    return EventLine(
        epoch=event.epoch,
        seq=event.seq,
        at=event.at,
        kind=event.kind,
        by=event.by,
        details=event.details,
    )
