"""One task, with all that became of it: input, result, attempts, verdicts, actions, cost and events."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from chimera.core.event import Event
from chimera.core.task import TaskStatus
from chimera.core.views import TaskView, View, WhyView
from chimera.dashboard.course import LaneView, lanes_of
from chimera.dashboard.film import Film
from chimera.dashboard.payload import Payload, payload
from chimera.dashboard.trails import Trail


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
    more: bool = Field(description="There may be events of it that are not shown here, or not read yet.")

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


def task_detail(
    trail: Trail, film: Film | None, task: TaskView, *, tenant: str, why: WhyView | None, over: bool
) -> TaskDetail:
    """A task's page.

    Args:
        trail: its events, as far as they were read.
        film: its mission's; None: it has none.
        over: its mission and all tasks of it are final.
    """
    number = film.roster.number(task.task_id.partition(".")[2]) if film else None
    lane = lanes_of(film, tenant, [number])[0] if film and number is not None else None
    return TaskDetail(
        tenant=tenant,
        still=over and (trail.full or not trail.more),
        task=task,
        why=why,
        lane=lane,
        events=tuple(map(_line, trail.events)),
        more=trail.more,
    )


def _line(event: Event) -> EventLine:
    return EventLine(
        epoch=event.epoch,
        seq=event.seq,
        at=event.at,
        kind=event.kind,
        by=event.by,
        details=event.details,
    )
