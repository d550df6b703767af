"""A mission's state at any event: a fold over what the flight recorder says of it. Pure.

Events go in one at a time, oldest first; ``at`` gives the state behind any of them::

    line = Timeline()
    for event in events:
        line.take(event)
    line.at((1, 4711)).counts

What each event changes is worked out once, when it comes. Every `KEYFRAME` events the state is put aside, so
that a moment costs one copy of it and at most so many small steps, wherever it lies.

Events of one script call share an instant. Between two of them a task may be seen where it never rested:
READY after its last attempt, before the next event says FAILED.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, TypeAlias

from chimera.core.event import Event, Position
from chimera.core.mission import MissionStatus
from chimera.core.task import TaskStatus

M, S = MissionStatus, TaskStatus

KEYFRAME = 1_024
"""Events between two states that are put aside."""

ENDS = {
    "task.erred": 1,
    "task.timed_out": 1,
    "task.rejected": 1,
    "task.declined": 1,
    "task.returned": 0,
    "task.rescued": 0,
    "task.stale": 0,
}
"""Entries that end an attempt → how many of max_attempts each uses up. The task is READY then, unless the
next entry says that it is FAILED or ESCALATED."""
STEPS = {
    "task.unblocked": S.READY,
    "task.claimed": S.PENDING,
    "task.submitted": S.REVIEW,
    "task.accepted": S.ACCEPTED,
    "task.approved": S.ACCEPTED,
    "task.escalated": S.ESCALATED,
    "task.failed": S.FAILED,
    "task.cancelled": S.CANCELLED,
    "task.redriven": S.READY,
}
"""Other entries of tasks → where they lead. One that is revived is READY or BLOCKED: the entry says which."""
MISSION_STEPS = {
    "mission.submitted": M.PLANNING,
    "mission.running": M.RUNNING,
    "mission.waiting_review": M.WAITING_REVIEW,
    "mission.completed": M.COMPLETED,
    "mission.failed": M.FAILED,
    "mission.cancelled": M.CANCELLED,
    "mission.paused": M.PAUSED,
}
"""Entries of a mission → where they lead. One that is resumed is PLANNING or RUNNING: see its entry."""

_CODES = tuple(TaskStatus)
_CODE = {status: code for code, status in enumerate(_CODES)}
_RUN = re.compile(r"(\d+)\.\.(\d+)")


class TaskAt(NamedTuple):
    """A task at a moment."""

    status: TaskStatus
    attempt: int
    """Its last attempt's number; 0 before the first."""
    settled_microusd: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a mission says of itself at a moment, its tasks left out.

    Attributes:
        status: None before it was submitted.
        planned: tasks made so far.
        budget_microusd: 0 where its events do not say.
        archived: it was taken out of Redis.
    """

    status: MissionStatus | None = None
    reason: str = ""
    state_version: int = 0
    budget_microusd: int = 0
    planned: int = 0
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """A mission behind one of its events.

    Attributes:
        index: how many of its events lead here.
        epoch, seq, at: of the last of them; 0, 0 and None before the first.
        kind: of that event.
        mission: the mission itself.
        counts: its tasks by status; those at zero are left out.
        attempts: claims so far, of all its tasks.
        held_microusd, settled_microusd: of all its calls, those that no task made included.
        tasks: by id, in the order they were made; none where they were not asked for.
    """

    index: int
    epoch: int
    seq: int
    at: datetime | None
    kind: str
    mission: Head
    counts: dict[TaskStatus, int]
    attempts: int
    held_microusd: int
    settled_microusd: int
    tasks: dict[str, TaskAt]


@dataclass(slots=True)
class _Hold:
    """A grant: which event made it, and what each that ended it charged."""

    task: int
    amount: int
    granted: int
    ends: list[tuple[int, int]] = field(default_factory=list)

    @property
    def charged(self) -> int | None:
        return self.ends[-1][1] if self.ends else None


class _Step(NamedTuple):
    """What one event changes of one task. Codes and numbers of -1 change nothing."""

    task: int
    status: int
    attempt: int
    settled: int


_NOTHING = _Step(-1, -1, -1, 0)
_UNBORN = 255
_Births: TypeAlias = "tuple[tuple[int, int], ...]"
"""Numbers of tasks that are made, and the codes of their first statuses."""


@dataclass(slots=True)
class _Frame:
    """All tasks at one moment, by number; and what the moment says beside them."""

    statuses: bytearray = field(default_factory=bytearray)
    attempts: array[int] = field(default_factory=lambda: array("L"))
    settled: array[int] = field(default_factory=lambda: array("q"))
    head: Head = Head()
    claims: int = 0
    held: int = 0
    spent: int = 0

    def copy(self) -> _Frame:
        return replace(self, statuses=self.statuses[:], attempts=self.attempts[:], settled=self.settled[:])

    def born(self, births: _Births) -> None:
        for number, status in births:
            while len(self.statuses) <= number:
                self.statuses.append(_UNBORN)
                self.attempts.append(0)
                self.settled.append(0)
            self.statuses[number] = status

    def has(self, number: int) -> bool:
        return number < len(self.statuses) and self.statuses[number] != _UNBORN

    def apply(self, step: _Step) -> None:
        number, status, attempt, settled = step
        if number < 0 or not self.has(number):
            return
        if status >= 0:
            self.statuses[number] = status
        if attempt >= 0:
            self.attempts[number] = attempt
        self.settled[number] += settled


Where: TypeAlias = "Position | tuple[int, int] | datetime"
"""A place in a recorder: behind an event, by its position or its epoch and number; or an instant."""


class Timeline:
    """One mission's events, and its state behind each.

    Args:
        starts: epoch → number of the event that it begins behind, where it is known
            (`chimera.store.cuts.Cuts.starts`). What earlier epochs have behind it, the store lost: it counts
            until the new epoch's first event and no longer. Events ``recorder.epoch`` say the same.
    """

    def __init__(self, starts: Mapping[int, int] | None = None) -> None:
        self.mission_id = ""
        self._starts = dict(starts or {})
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._holds: dict[str, _Hold] = {}
        self._now = _Frame()
        self._frames: list[tuple[int, _Frame]] = [(0, self._now.copy())]
        self._steps: list[tuple[_Step, _Births]] = []
        """What each event changes of a task; the tasks that it makes."""
        self._beside: list[tuple[Head, int, int, int]] = []
        """Behind each event: the mission, claims, held, settled."""
        self._places: list[tuple[int, int]] = []
        self._instants: list[datetime] = []
        self._kinds: list[str] = []

    def __len__(self) -> int:
        return len(self._places)

    def take(self, event: Event) -> None:
        """The next event. Other missions' are passed over; those of the recorder's epochs are heard."""
        if event.kind == "recorder.epoch":
            self._starts[event.epoch] = int(event.details.get("after", 0))
        elif event.mission_id and event.mission_id == (self.mission_id or event.mission_id):
            self.mission_id = event.mission_id
            self._forget_what_was_lost(event)
            self._fold(event)

    def at(self, where: Where) -> Moment:
        """The state behind the last event at or before a place."""
        if isinstance(where, datetime):
            return self.moment(bisect_right(self._instants, where))
        place = (where.epoch, where.seq) if isinstance(where, Position) else where
        return self.moment(bisect_right(self._places, place))

    def moment(self, index: int, *, tasks: bool = True) -> Moment:
        """The state behind so many events: 0 is before the first. Raises IndexError.

        Args:
            tasks: also each task's; else only what is said of all of them.
        """
        if not 0 <= index <= len(self):
            raise IndexError(f"there are {len(self)} events, and no moment {index}")
        frame = self._frame(index)
        counts = {status: frame.statuses.count(code) for code, status in enumerate(_CODES)}
        return Moment(
            index=index,
            epoch=self._places[index - 1][0] if index else 0,
            seq=self._places[index - 1][1] if index else 0,
            at=self._instants[index - 1] if index else None,
            kind=self._kinds[index - 1] if index else "",
            mission=frame.head,
            counts={status: count for status, count in counts.items() if count},
            attempts=frame.claims,
            held_microusd=frame.held,
            settled_microusd=frame.spent,
            tasks={
                name: TaskAt(_CODES[status], attempt, settled)
                for name, status, attempt, settled in zip(
                    self._names, frame.statuses, frame.attempts, frame.settled, strict=False
                )
                if status != _UNBORN
            }
            if tasks
            else {},
        )

    @property
    def last(self) -> Moment:
        """The state behind the newest event."""
        return self.moment(len(self))

    def _frame(self, index: int) -> _Frame:
        # A frame is what the event after it starts from: not always what the one before it led to.
        start, kept = self._frames[max(0, bisect_left(self._frames, index, key=lambda one: one[0]) - 1)]
        frame = kept.copy()
        for step, born in self._steps[start:index]:
            frame.born(born)
            frame.apply(step)
        if index:
            frame.head, frame.claims, frame.held, frame.spent = self._beside[index - 1]
        return frame

    # The fold.

    def _fold(self, event: Event) -> None:
        if len(self) - self._frames[-1][0] >= KEYFRAME:
            self._frames.append((len(self), self._now.copy()))
        born: _Births = ()
        step = _NOTHING
        noun = event.kind.partition(".")[0]
        if noun == "mission":
            born = self._mission(event)
        elif noun == "task":
            born, step = self._task(event)
        elif noun == "spend":
            step = self._spend(event)
        now = self._now
        now.born(born)
        now.apply(step)
        self._steps.append((step, born))
        self._beside.append((now.head, now.claims, now.held, now.spent))
        self._places.append((event.epoch, event.seq))
        self._instants.append(max(event.at, self._instants[-1]) if self._instants else event.at)
        self._kinds.append(event.kind)

    def _mission(self, event: Event) -> _Births:
        details, head = event.details, self._now.head
        match event.kind:
            case "mission.planned":
                made = dict.fromkeys(runs(str(details.get("ready", ""))), S.READY)
                made |= dict.fromkeys(runs(str(details.get("blocked", ""))), S.BLOCKED)
                self._now.head = replace(head, planned=head.planned + int(details.get("tasks", len(made))))
                return self._make({f"{event.mission_id}.{name}": status for name, status in made.items()})
            case "mission.edited":
                head = replace(head, state_version=int(details["state_version"]))
            case "mission.archived":
                head = replace(head, archived=True)
            case "mission.resumed":
                budget = int(details.get("budget") or head.budget_microusd)
                to = M(details["to"]) if "to" in details else M.RUNNING
                head = replace(head, status=to, reason="", budget_microusd=budget)
            case "mission.submitted":
                budget = int(details.get("budget", 0))
                head = replace(head, status=M.PLANNING, state_version=1, budget_microusd=budget)
            case kind if kind in MISSION_STEPS:
                head = replace(head, status=MISSION_STEPS[kind], reason=str(details.get("reason", "")))
            case _:
                pass
        self._now.head = head
        return ()

    def _task(self, event: Event) -> tuple[_Births, _Step]:
        kind, details = event.kind, event.details
        if kind in ENDS:
            to = _CODE[S.READY]
        elif kind == "task.revived":
            to = _CODE[S(details.get("to", S.READY))]
        else:
            to = _CODE[STEPS[kind]] if kind in STEPS else -1
        attempt = -1
        if kind == "task.claimed":
            attempt = int(details.get("attempt", 0))
            self._now.claims += 1
        # One that older entries did not name is known from now on.
        born = self._make({event.task_id: S.READY})
        return born, _Step(self._numbers[event.task_id], to, attempt, 0)

    def _spend(self, event: Event) -> _Step:
        name, now = str(event.details.get("hold", "")), self._now
        if event.kind == "spend.held":
            task = self._numbers.get(event.task_id, -1)
            hold = self._holds[name] = _Hold(task, int(event.details["amount"]), len(self))
            now.held += hold.amount
            return _NOTHING
        found = self._holds.get(name)
        if event.kind == "spend.refused" or found is None:
            return _NOTHING
        cost, before = int(event.details.get("cost", 0)), found.charged
        if before is None:
            now.held -= found.amount
        more = cost - (before or 0)
        now.spent += more
        found.ends.append((len(self), cost))
        return _Step(found.task, -1, -1, more)

    def _make(self, tasks: Mapping[str, TaskStatus]) -> _Births:
        """Those that are new; they are numbered as they come."""
        born = []
        for task_id, status in tasks.items():
            number = self._numbers.setdefault(task_id, len(self._names))
            if number == len(self._names):
                self._names.append(task_id)
            if not self._now.has(number):
                born.append((number, _CODE[status]))
        return tuple(born)

    def _forget_what_was_lost(self, event: Event) -> None:
        """The first event of a new epoch goes on from the last one that the store still had."""
        if not self._places or event.epoch <= (before := self._places[-1][0]):
            return
        begins = [after for epoch, after in self._starts.items() if before < epoch <= event.epoch]
        after = min([*begins, event.seq - 1])
        kept = len(self)
        while kept and self._places[kept - 1][1] > after:
            kept -= 1
        if kept == len(self):
            return
        self._now = self._frame(kept)
        self._frames.append((len(self), self._now.copy()))
        self._holds = {name: hold for name, hold in self._holds.items() if hold.granted < kept}
        for hold in self._holds.values():
            hold.ends = [end for end in hold.ends if end[0] < kept]


def runs(text: str) -> Iterator[str]:
    """The names in a list of tasks that were made: ``a b 0..3`` are a, b, 0, 1, 2 and 3."""
    for name in text.split():
        if run := _RUN.fullmatch(name):
            yield from map(str, range(int(run[1]), int(run[2]) + 1))
        else:
            yield name


def at(events: Iterable[Event], where: Where, starts: Mapping[int, int] | None = None) -> Moment:
    """The state of the mission whose events these are, at a place. See `Timeline`."""
    line = Timeline(starts)
    for event in events:
        line.take(event)
    return line.at(where)
