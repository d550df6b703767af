"""Checks lives: tasks and missions take the tables' steps, made by who may, to where the store has them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from chimera.chaos.history import History, MissionEnd, TenantEnd
from chimera.core.event import Event
from chimera.core.mission import MISSION_FINAL, MISSION_TRANSITIONS, MissionStatus
from chimera.core.task import TRANSITIONS, TaskStatus
from chimera.core.timeline import ENDS, STEPS

M, S = MissionStatus, TaskStatus

FROM = {
    "task.unblocked": {S.BLOCKED},
    "task.claimed": {S.READY},
    "task.submitted": {S.PENDING},
    "task.erred": {S.PENDING},
    "task.timed_out": {S.PENDING},
    "task.returned": {S.PENDING},
    "task.rescued": {S.PENDING},
    "task.stale": {S.PENDING, S.REVIEW, S.ESCALATED},
    "task.accepted": {S.REVIEW},
    "task.rejected": {S.REVIEW},
    "task.escalated": {S.PENDING, S.REVIEW},
    "task.approved": {S.ESCALATED},
    "task.declined": {S.ESCALATED},
    "task.redriven": {S.FAILED},
    "task.revived": {S.CANCELLED},
}
"""Entries that can be made of a task in these states only; the others wherever the table has the step."""
BY_HOLDER = {"task.submitted", "task.erred", "task.timed_out"}
"""Only who holds the lease may say so."""


@dataclass(slots=True)
class Life:
    """A task so far. Of a new or revived one it is not said whether it waits for others."""

    statuses: set[TaskStatus] = field(default_factory=lambda: {S.READY, S.BLOCKED})
    holder: str = ""
    attempt: int = 0


def steps_are_legal(history: History) -> tuple[int, list[str]]:
    """Tasks and missions go along the tables' steps, and end where the store has them."""
    wrong: list[str] = []
    checked = 0
    for tenant in history.tenants.values():
        lives: dict[str, dict[str, Life]] = defaultdict(lambda: defaultdict(Life))
        for event, following in zip_longest(tenant.events, tenant.events[1:]):
            if event.kind.startswith("task."):
                checked += 1
                if event.task_id.rpartition(".")[0] != event.mission_id:
                    wrong.append(f"entry {event.seq} has {event.task_id!r} in mission {event.mission_id!r}")
                wrong += _step(lives[event.mission_id][event.task_id], event, following)
        planned, found = _missions(tenant)
        wrong += found
        for mission in tenant.missions:
            wrong += _ends(mission, lives[mission.mission_id], planned[mission.mission_id])
    return checked, wrong


def _step(life: Life, event: Event, following: Event | None) -> Iterator[str]:
    """Take one step; what is wrong with it."""
    said = f"{event.task_id}: entry {event.seq} ({event.kind})"
    to = _leads_to(event, following)
    if event.kind in BY_HOLDER and event.by != life.holder:
        yield f"{said} is by {event.by}, and {life.holder or 'nobody'} holds it"
    if event.kind == "task.claimed":
        if event.details.get("attempt") != life.attempt + 1:
            yield f"{said} begins attempt {event.details.get('attempt')} after {life.attempt}"
        life.holder, life.attempt = event.by, event.details.get("attempt", life.attempt + 1)
    where = life.statuses & FROM.get(event.kind, set(S))
    if not where or (to and not any((status, after) in TRANSITIONS for status in where for after in to)):
        yield f"{said} is made of a task that is {'/'.join(sorted(life.statuses))}"
    life.statuses = to or life.statuses


def _leads_to(event: Event, following: Event | None) -> set[TaskStatus]:
    """Where an entry leads; nowhere when it is no step, or the next one says where."""
    if event.kind == "task.revived":
        return {S.READY, S.BLOCKED}
    if event.kind in ENDS:
        told = following is not None and following.task_id == event.task_id
        further = told and following is not None and following.kind in {"task.failed", "task.escalated"}
        return set() if further else {S.READY}
    return {STEPS[event.kind]} if event.kind in STEPS else set()


def _missions(tenant: TenantEnd) -> tuple[Counter[str], list[str]]:
    """How many tasks each mission was given; and each step of a mission that is none."""
    planned: Counter[str] = Counter()
    status: dict[str, MissionStatus] = {}
    begun: set[str] = set()
    over: set[str] = set()
    wrong: list[str] = []
    for event in tenant.events:
        mission, what = event.mission_id, event.kind.partition(".")[2]
        if not event.kind.startswith("mission.") or what == "edited":
            continue
        if what == "archived":
            if status.get(mission) not in MISSION_FINAL:
                wrong.append(f"{mission}: entry {event.seq} archives it, and it is not over")
            over.add(mission)
            continue
        if mission in over:
            wrong.append(f"{mission}: entry {event.seq} ({event.kind}) is of one that was archived")
        if what == "planned":
            planned[mission] += int(event.details["tasks"])
            continue
        if what == "submitted":
            if mission in status:
                wrong.append(f"{mission}: entry {event.seq} submits it a second time")
            status[mission] = M.PLANNING
            continue
        to = (M.RUNNING if mission in begun else M.PLANNING) if what == "resumed" else M(what.upper())
        if mission not in status or (status[mission], to) not in MISSION_TRANSITIONS:
            wrong.append(f"{mission}: entry {event.seq} leads from {status.get(mission, 'nothing')} to {to}")
        status[mission] = to
        if to is M.RUNNING:
            begun.add(mission)
    for end in tenant.missions:
        if end.status != status.get(end.mission_id):
            made = status.get(end.mission_id, "nothing")
            wrong.append(f"{end.mission_id} is {end.status} in the store; its entries make it {made}")
    return planned, wrong


def _ends(mission: MissionEnd, lives: dict[str, Life], planned: int) -> Iterator[str]:
    """A final mission's tasks are as many as were planned, each where its last entry left it."""
    if mission.status not in MISSION_FINAL:
        return
    if len(lives) != planned:
        yield f"{mission.mission_id}: {planned} tasks were planned, {len(lives)} have entries"
    made = Counter("/".join(sorted(life.statuses)) for life in lives.values())
    if made != Counter(mission.counts):
        yield f"{mission.mission_id} has {mission.counts} in the store; its entries make it {dict(made)}"
