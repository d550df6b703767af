"""What missions and tasks must do: a model in plain Python, independent of the Lua.

It learns of each call from the flight recorder alone, one entry after another: every step must be one of the
tables in `chimera.core`, for a reason that the state before it allows. What it then believes is compared with
what the store holds (`tests.store.census`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from chimera.chaos.lives import FROM
from chimera.core.event import Event
from chimera.core.mission import MISSION_FINAL, MISSION_TRANSITIONS, MissionSpec, MissionStatus
from chimera.core.plan import Window
from chimera.core.task import TRANSITIONS, TaskStatus
from chimera.core.timeline import ENDS, STEPS
from chimera.store.scripts import Refusal
from chimera.store.tasks import POISON_AFTER

M, S = MissionStatus, TaskStatus

MAX_STALE = 2
MAX_FAILURES = 2
"""Stale results, and failures to judge, that make a human look."""

CLEARED = {"task.submitted", "task.erred", "task.timed_out"}
"""Ends of an attempt that its worker outlived: no suspect any more."""


@dataclass
class Task:
    """A task as the model believes it to be."""

    task_id: str
    mission_id: str
    depends_on: tuple[str, ...]
    partial: bool
    status: TaskStatus
    attempt: int = 0
    used: int = 0
    stale: int = 0
    deaths: int = 0
    alone: int = 0
    crashes: int = 0
    lapses: int = 0
    fell_with: int = 0
    """The token under which its worker was last taken for dead."""
    judge_errors: int = 0
    upstream: bool = False
    """CANCELLED for want of what it depends on."""
    result: str | None = None
    version: int = 0
    """Of the mission's state, when the result was handed in."""
    worker: str = ""
    token: int = 0
    judge_token: int = 0
    handed_in: int = 0
    handed_in_as: Refusal | None = None
    ended: int = 0
    ended_as: TaskStatus | None = None
    judged: int = 0
    judged_as: Refusal | None = None
    """Tokens under which it was last handed in, ended, judged, and what the answer was."""


@dataclass
class Mission:
    """A mission as the model believes it to be."""

    mission_id: str
    spec: MissionSpec
    status: MissionStatus = M.PLANNING
    reason: str = ""
    version: int = 1
    budget: int = 0
    planned: int = 0
    planned_all: bool = False
    begun: bool = False
    overdue: bool = False
    broke: int = 0
    """The budget that was found exhausted."""
    windows: list[tuple[int, Window]] = field(default_factory=list)

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.status in MISSION_FINAL

    @property
    def claimable(self) -> bool:
        """Whether its READY tasks may be claimed."""
        return self.status in {M.RUNNING, M.WAITING_REVIEW}


class Model:
    """One tenant."""

    def __init__(self) -> None:
        self.missions: dict[str, Mission] = {}
        self.tasks: dict[str, Task] = {}
        self.sequence = 0

    def of(self, mission_id: str) -> list[Task]:
        """A mission's tasks."""
        return [task for task in self.tasks.values() if task.mission_id == mission_id]

    def counts(self, mission_id: str) -> Counter[TaskStatus]:
        """A mission's tasks by status."""
        return Counter(task.status for task in self.of(mission_id))

    def submit(self, mission_id: str, spec: MissionSpec) -> None:
        """A mission is acknowledged."""
        self.missions[mission_id] = Mission(mission_id, spec, budget=spec.budget_microusd)

    def plan(self, mission_id: str, cursor: int, window: Window) -> None:
        """A window of tasks is born."""
        mission = self.missions[mission_id]
        for one in window.tasks:
            task_id = f"{mission_id}.{one.name}"
            assert task_id not in self.tasks, f"{task_id} was made twice"
            self.tasks[task_id] = Task(
                task_id,
                mission_id,
                tuple(f"{mission_id}.{name}" for name in one.depends_on),
                one.partial,
                S.BLOCKED if one.waits_for else S.READY,
            )
        mission.windows.append((cursor, window))
        mission.planned, mission.planned_all = window.cursor, window.done

    # What a task waits for.

    def lost(self, task: Task) -> int:
        """How many of its inputs will not come."""
        needs = [self.tasks.get(name) for name in task.depends_on]
        return sum(one is not None and (one.status is S.FAILED or one.upstream) for one in needs)

    def waits(self, task: Task) -> int:
        """How many of its inputs may still come."""
        needs = [self.tasks.get(name) for name in task.depends_on]
        there = sum(one is not None and one.status is S.ACCEPTED for one in needs)
        return len(needs) - there - self.lost(task)

    def doomed(self, task: Task) -> bool:
        """Whether it cannot run for want of its inputs."""
        lost = self.lost(task)
        return bool(lost) and (not task.partial or lost == len(task.depends_on))

    # What the recorder says, replayed.

    def replay(self, entry: Sequence[Event]) -> None:
        """One script call's events."""
        for event, following in zip_longest(entry, entry[1:]):
            assert event.seq == self.sequence + 1, f"entry {event.seq} follows {self.sequence}"
            self.sequence = event.seq
            noun = event.kind.partition(".")[0]
            if noun == "mission":
                self._mission(event)
            elif noun == "task":
                self._task(event, following)
            elif noun == "action":
                assert self.tasks[event.task_id].status is S.ACCEPTED, f"{event.kind} before the verdict"

    def _mission(self, event: Event) -> None:
        mission = self.missions[event.mission_id]
        match event.kind:
            case "mission.submitted" | "mission.planned":
                return
            case "mission.edited":
                mission.version += 1
                assert event.details["state_version"] == mission.version
                return
            case "mission.resumed":
                mission.budget = int(event.details.get("budget", mission.budget))
                to = M.RUNNING if mission.begun else M.PLANNING
            case kind:
                to = M(kind.partition(".")[2].upper())
        assert (mission.status, to) in MISSION_TRANSITIONS, f"{mission.mission_id}: {mission.status} → {to}"
        reason = str(event.details.get("reason", ""))
        if to in {M.COMPLETED, M.FAILED}:
            assert (to, reason) == self.settled(mission.mission_id, moving=False), f"it ends {to} ({reason})"
        mission.status, mission.reason = to, reason
        mission.begun = mission.begun or to is M.RUNNING

    def _task(self, event: Event, following: Event | None) -> None:
        task, kind = self.tasks[event.task_id], event.kind
        if kind == "task.lapsed":
            assert task.fell_with, f"{task.task_id}: its worker had not been taken for dead"
            task.fell_with, task.crashes, task.lapses = 0, task.crashes - 1, task.lapses + 1
            return
        if kind in CLEARED:
            task.deaths = task.alone = 0
        assert task.status in FROM.get(kind, set(S)), f"{task.task_id}: {kind} of one that is {task.status}"
        if kind in ENDS:
            self._ended(task, event, following)
            return
        to = STEPS.get(kind)
        if kind == "task.revived":
            to = S.BLOCKED if self.waits(task) or self.doomed(task) else S.READY
        assert to is not None, f"no step is known for {kind}"
        getattr(self, f"_{kind.partition('.')[2]}", self._nothing)(task, event)
        self._move(task, to)

    def _move(self, task: Task, to: TaskStatus) -> None:
        assert (task.status, to) in TRANSITIONS, f"{task.task_id}: {task.status} → {to}"
        task.status = to

    def _ended(self, task: Task, event: Event, following: Event | None) -> None:
        mission = self.missions[task.mission_id]
        task.used += ENDS[event.kind]
        assert task.used <= (mission.spec.max_attempts or 0), f"{task.task_id} used {task.used} attempts"
        spent = ENDS[event.kind] > 0 and task.used == mission.spec.max_attempts
        if event.kind == "task.rescued" and not event.details["crash"]:
            task.lapses += 1
        elif event.kind == "task.rescued":
            task.crashes, task.fell_with = task.crashes + 1, task.token
            assert event.details["alone"] <= (task.deaths > 1)
            task.deaths += 1
            task.alone += bool(event.details["alone"])
            spent = bool(event.details["alone"]) and task.alone >= POISON_AFTER
        asked = False
        if event.kind == "task.stale":
            task.stale += 1
            asked = task.stale >= MAX_STALE and task.status is not S.ESCALATED
        if event.kind == "task.declined":
            task.judge_errors = 0
        further = following.kind if following is not None and following.task_id == task.task_id else ""
        assert (further == "task.failed") == spent, f"{task.task_id}: {event.kind}, then {further}"
        assert (further == "task.escalated") == asked, f"{task.task_id}: {event.kind}, then {further}"
        if not spent and not asked:
            task.result = None
            self._move(task, S.READY)

    def _nothing(self, task: Task, event: Event) -> None:
        """Nothing but the step itself."""

    def _claimed(self, task: Task, event: Event) -> None:
        assert self.missions[task.mission_id].claimable, f"{task.task_id} was claimed"
        task.attempt += 1
        task.worker = event.by
        assert event.details["attempt"] == task.attempt

    def _unblocked(self, task: Task, event: Event) -> None:
        assert not self.waits(task), f"{task.task_id} does not wait"
        assert not self.doomed(task), f"{task.task_id} runs without its inputs"

    def _accepted(self, task: Task, event: Event) -> None:
        assert task.result is not None, f"{task.task_id}: nothing was handed in"
        assert task.version == self.missions[task.mission_id].version, f"{task.task_id} is stale"

    _approved = _accepted

    def _cancelled(self, task: Task, event: Event) -> None:
        task.result = None
        task.upstream = event.details.get("reason") == "upstream_failed"
        if task.upstream:
            assert self.doomed(task), f"{task.task_id} is cancelled, and could still run"
        else:
            assert self.missions[task.mission_id].final, f"{task.task_id} is swept too soon"

    def _revived(self, task: Task, event: Event) -> None:
        assert not self.missions[task.mission_id].final, f"{task.task_id} comes back to what is over"
        task.upstream = False

    def _redriven(self, task: Task, event: Event) -> None:
        task.used = task.stale = task.deaths = task.alone = task.judge_errors = 0
        task.result = None

    # What a look at a mission should find.

    def settled(self, mission_id: str, *, moving: bool) -> tuple[MissionStatus, str]:
        """The status and reason that the hub's look leads to.

        Args:
            moving: swept tasks are still to come back, or a failure to be passed on to those that wait.
        """
        mission, n = self.missions[mission_id], self.counts(mission_id)
        busy = moving or n[S.READY] + n[S.PENDING] + n[S.REVIEW] > 0
        if mission.final:
            return mission.status, mission.reason
        if reason := self._early_end(mission, n):
            return M.FAILED, reason
        if mission.status is M.PAUSED or busy or not mission.planned_all:
            again = busy and mission.status is M.WAITING_REVIEW
            return (M.RUNNING, "") if again else (mission.status, mission.reason)
        if n[S.ESCALATED]:
            return M.WAITING_REVIEW, ""
        assert not n[S.BLOCKED], f"{mission_id}: nothing moves, and {n[S.BLOCKED]} tasks wait"
        enough = n[S.ACCEPTED] >= mission.spec.min_accepted
        return (M.COMPLETED, "") if enough else (M.FAILED, "min_accepted")

    def _early_end(self, mission: Mission, n: Counter[TaskStatus]) -> str:
        """Why it fails before all is done, or ""."""
        if mission.overdue:
            return "deadline"
        if mission.status is M.PAUSED:
            return ""
        if mission.broke == mission.budget:
            return "budget_exceeded"
        return "task_failed" if mission.spec.on_task_failure == "stop" and n[S.FAILED] else ""
