"""Checks high priority: from submit to acceptance within 10 s at p99, told from the recorder's entries alone.

A task's time begins with its mission's submit, or when what it waits for was there, or when it was redriven.
What lies between asking a human and the answer, and while its mission was paused or over, is subtracted:
nothing could be done then. So is the time in which a fault took hub or store away, and in which they heal:
the promise is made for a fleet that is up. Deaths of workers are not subtracted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from chimera.chaos.deaths import BESIDE, percentiles
from chimera.chaos.faults import HEALS_S, Fault
from chimera.chaos.history import History, TenantEnd
from chimera.core.event import Event

PROMISE_S = 10.0
HEALS = 6.0
"""Seconds after a fault of hub or store that its healing takes, where the fault says nothing (`HEALS_S`)."""
CLOSE_S = 0.1
"""So far the recorder's own figure may be from the one worked out here."""

Span = tuple[float, float]
"""From an instant to another, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Served:
    """One acceptance of high priority.

    Attributes:
        own_s: its time, as the fleet should have told it.
        took_s: the same without outages.
        told_ms: as the entry tells it.
        breach: whether an entry tells of a breach.
        began: when its time began, seconds since the epoch.
        still: when nothing could be done for it.
    """

    task_id: str
    own_s: float
    took_s: float
    told_ms: int | None
    breach: bool
    began: float
    still: tuple[Span, ...]

    @property
    def course(self) -> str:
        """What its time was worked out from: ``from 12:00:01.250; still 12:00:02.000 to 12:00:03.100``."""
        spans = ", ".join(f"{_clock(start)} to {_clock(end)}" for start, end in self.still) or "never"
        return f"from {_clock(self.began)}; still {spans}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


@dataclass
class Story:
    """What is known of one tenant's tasks so far."""

    submitted: dict[str, float] = field(default_factory=dict)
    """Missions of high priority."""
    begun: dict[str, float] = field(default_factory=dict)
    still_since: dict[str, float] = field(default_factory=dict)
    """Missions that are paused or over, and tasks that a human is asked about."""
    still: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))

    def stop(self, name: str, at: float) -> None:
        """Nothing can be done for it from now on."""
        self.still_since.setdefault(name, at)

    def go_on(self, name: str, at: float) -> None:
        """It may be worked on again, if it might not."""
        if name in self.still_since:
            self.still[name].append((self.still_since.pop(name), at))

    def spans(self, task: str, mission: str, until: float) -> list[Span]:
        """When nothing could be done for a task."""
        open_since = [(self.still_since[one], until) for one in (task, mission) if one in self.still_since]
        return [*self.still[task], *self.still[mission], *open_since]


STOPS = {"mission.paused", "mission.failed", "mission.completed", "mission.cancelled"}
GOES_ON = {"mission.resumed", "mission.running"}
ANSWERS = {"task.approved", "task.declined", "task.stale"}
BEGINS = {"task.unblocked", "task.redriven"}


def served(history: History) -> Iterator[Served]:
    """Every acceptance of high priority."""
    outages = [
        (float(fault["at"]), float(fault["until"]) + HEALS_S.get(Fault(fault["fault"]), HEALS))
        for fault in history.faults
        if fault["fault"] not in BESIDE
    ]
    for tenant in history.tenants.values():
        yield from _of_tenant(tenant, outages)


def _of_tenant(tenant: TenantEnd, outages: Sequence[Span]) -> Iterator[Served]:
    story = Story()
    breaches = {event.task_id for event in tenant.events if event.kind == "slo.breached"}
    for event in tenant.events:
        at, task, mission = event.at.timestamp(), event.task_id, event.mission_id
        if event.kind == "mission.submitted" and event.details.get("priority") == "high":
            story.submitted[mission] = at
        elif mission in story.submitted:
            _tell(story, event, at)
            if event.kind in {"task.accepted", "task.approved"}:
                began = story.begun.get(task, story.submitted[mission])
                still = story.spans(task, mission, at)
                own_s, took_s = (_without(began, at, spans) for spans in (still, [*still, *outages]))
                told_ms = event.details.get("took_ms")
                yield Served(task, own_s, took_s, told_ms, task in breaches, began, tuple(still))


def _tell(story: Story, event: Event, at: float) -> None:
    task, mission = event.task_id, event.mission_id
    if event.kind in STOPS:
        story.stop(mission, at)
    elif event.kind in GOES_ON:
        story.go_on(mission, at)
    elif event.kind == "task.escalated":
        story.stop(task, at)
    elif event.kind in ANSWERS:
        story.go_on(task, at)
    elif event.kind in BEGINS:
        story.begun[task] = at
        story.still[task].clear()


def _without(began: float, ended: float, spans: Sequence[Span]) -> float:
    """Seconds between two instants that no span covers."""
    left, at = 0.0, began
    for start, end in sorted(spans):
        left += max(0.0, min(start, ended) - at)
        at = max(at, min(end, ended))
    return left + max(0.0, ended - at)


def high_priority_is_in_time(history: History) -> tuple[int, list[str]]:
    """At p99 within the promise; and the recorder tells each time, and each breach, as it was."""
    found = list(served(history))
    wrong = []
    for one in found:
        if one.told_ms is None or abs(one.told_ms / 1000 - one.own_s) > CLOSE_S:
            wrong.append(
                f"{one.task_id} took {one.own_s:.2f} s, and its entry tells {one.told_ms} ms ({one.course})"
            )
        elif one.breach != (one.told_ms > PROMISE_S * 1000):
            wrong.append(f"{one.task_id} took {one.own_s:.2f} s, told as a breach: {one.breach}")
    times = percentiles([one.took_s for one in found])
    if times and times["p99"] > PROMISE_S:
        worst = max(found, key=lambda one: one.took_s)
        wrong.append(
            f"p99 of {len(found)} tasks is {times['p99']:.1f} s: {worst.task_id} took {worst.took_s:.1f} s"
        )
    return len(found), wrong


def times(history: History) -> dict[str, float]:
    """How many tasks of high priority were accepted, and after how many seconds."""
    found = [one.took_s for one in served(history)]
    return {"tasks": float(len(found)), **percentiles(found)}
