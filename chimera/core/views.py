"""The wire: what the HTTP API answers, and what the client gives back.

Requests are strict; answers are not: a client that is older than its hub reads what it knows and
passes over what it does not, so these models ignore fields they were not told of. Money is µ$,
every instant is aware and UTC.
"""

from __future__ import annotations

import inspect
import re
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from chimera.core.action import ActionStatus
from chimera.core.brake import BrakeCause, BrakeState
from chimera.core.event import Event
from chimera.core.mission import MISSION_FINAL, MissionStatus
from chimera.core.task import FINAL, Priority, Task, TaskStatus
from chimera.core.verdict import Verdict
from chimera.core.waiting import Cause

EventView = Event
"""An event travels as it is recorded."""

T = TypeVar("T")


class View(BaseModel):
    """A frozen answer of the API."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Damaged(View):
    """Something that is left out of a list because its record cannot be read."""

    id: str = Field(description="The mission's or task's.")
    detail: str = Field(description="What of it cannot be read.")


class Page(View, Generic[T]):
    """Part of a list. `next` goes into `after` for the part that follows; None at the end."""

    items: tuple[T, ...]
    next: str | None = None
    damaged: tuple[Damaged, ...] = Field(
        (), description="What would stand here if its record could be read; the hub's log has more."
    )


class MissionView(View):
    """A mission as it stands now."""

    mission_id: str
    tenant: str
    status: MissionStatus
    reason: str = Field(description="Why it failed or was cancelled; empty otherwise.")
    goal: str
    context: dict[str, Any]
    state_version: int = Field(description="Grows with each change of goal or context, from 1.")
    agent: str
    priority: Priority
    strategy: Literal["map", "map_reduce", "dag"]
    budget_microusd: int
    spent_microusd: int
    held_microusd: int = Field(description="Reserved by calls that are under way.")
    wanted_microusd: int = Field(
        description="The reservation that found the budget exhausted; 0 when none did."
    )
    total_tasks: int
    planned: int = Field(description="Tasks made so far, of `total_tasks`.")
    counts: dict[TaskStatus, int] = Field(description="Planned tasks by status; every status is there.")
    tallies: dict[str, int] = Field(
        description="What went wrong on the way: crashes, lapses, errors, timeouts, rejections, stale, "
        "judge_errors. Those at zero are left out."
    )
    actions: dict[ActionStatus, int] = Field(
        {},
        description="Actions of accepted results by status; every status is there. A mission does not wait "
        "for them: it may be COMPLETED while some are QUEUED.",
    )
    trace_id: str = Field(
        "", description="Of its log lines and model calls: the trace it was submitted within, or its own."
    )
    submitted_at: datetime
    finished_at: datetime | None
    deadline_at: datetime | None
    archived_at: datetime | None = Field(
        None,
        description="Since when it is read from its archive and cannot be changed any more; null before.",
    )
    next_step: str = Field(
        description="One sentence, what to do, when it failed, waits for a human, or has failed actions."
    )

    @property
    def final(self) -> bool:
        """Whether it will not move on any more."""
        return self.status in MISSION_FINAL

    @property
    def archived(self) -> bool:
        """Whether it can only be read any more."""
        return self.archived_at is not None

    @property
    def accepted(self) -> int:
        """Tasks with an accepted result."""
        return self.counts.get(TaskStatus.ACCEPTED, 0)

    @property
    def failed(self) -> int:
        """Tasks that gave up."""
        return self.counts.get(TaskStatus.FAILED, 0)

    @property
    def left(self) -> int:
        """Tasks that are not final, those not yet planned included."""
        return self.total_tasks - sum(self.counts.get(status, 0) for status in FINAL)


class RedriveView(View):
    """What a redrive did."""

    redriven: int = Field(description="Tasks that got a fresh set of attempts.")
    mission: MissionView


class ActionView(View):
    """An action of an accepted result, and what became of it."""

    action_id: str = Field(description="``<task_id>/<index>``.")
    task_id: str
    index: int = Field(description="Its place among its result's actions, from 0.")
    status: ActionStatus
    action: dict[str, Any] = Field(description="As proposed: kind, method, url, headers, body.")
    idempotency_key: str = Field(description="What the receiver gets with every try.")
    tries: int = Field(description="Since it was queued or last retried.")
    lapses: int = Field(description="Couriers that fell silent while they held it: each may have sent it.")
    answer: str = Field(description="What came of the last try.")
    courier: str = Field(description="Who is carrying it out now.")
    queued_at: datetime
    due_at: datetime | None = Field(description="Not tried (again) before this; None when it is final.")
    finished_at: datetime | None


class RetryView(View):
    """What a retry of actions did."""

    retried: int = Field(description="Actions that got a fresh set of tries.")
    mission: MissionView


class TaskView(Task):
    """A task on the wire, with what became of it so far.

    In lists, ``context.inputs`` (results of other tasks) is left empty: ask for the one task.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    mission_id: str
    stage: str = Field(description="Which kind of task of its mission: map, reduce, or a dag node's name.")
    depends_on: tuple[str, ...] = Field((), description="Ids of the tasks whose results it takes.")
    attempt: int = Field(description="The present or last attempt, from 1; 0 before the first.")
    tallies: dict[str, int] = Field(
        {}, description="Attempts that did not count or went wrong, by kind; those at zero are left out."
    )
    reason: str = Field("", description="Why it failed, was cancelled or waits for a human.")
    worker: str = Field("", description="Who holds its lease.")
    result: Any = Field(None, description="The accepted result, or the one under review.")
    has_result: bool = False
    state_version: int | None = Field(
        None, description="The mission's state_version that the result was made under; null without a result."
    )
    proposed: tuple[dict[str, Any], ...] = Field(
        (), description="Actions that wait, with the result, for the verdict."
    )
    actions: tuple[ActionView, ...] = Field(
        (), description="Actions of the accepted result. In lists left empty: ask for the one task."
    )
    verdicts: tuple[Verdict, ...] = Field((), description="Every verdict, oldest first.")
    spent_microusd: int = 0
    last_error: str = ""
    planned_at: datetime
    finished_at: datetime | None = None


class WhyView(View):
    """What holds a task, and what to do about it."""

    task_id: str
    status: TaskStatus | None = Field(description="Null for an input of which no task was made yet.")
    cause: Cause
    detail: str = Field(description="One sentence: what holds it.")
    next_step: str = Field(description="One sentence: what to do.")
    position: int | None = Field(
        None,
        description="Its place in the tenant's line of tasks to be claimed, or of results to be judged; "
        "from 1, if each were claimed alone and nothing new came; null when it stands in none, or far back.",
    )
    waiting: int | None = Field(None, description="How many stand in that line.")
    figures: dict[str, Any] = Field({}, description="What the sentences are made of, by cause.")


class ResultView(View):
    """One accepted result."""

    task_id: str
    stage: str = Field(description="map, reduce, or a dag node's name.")
    agent: str
    answers: bool = Field(
        True, description="No other task of the mission takes it in: of a map_reduce, the last reduce."
    )
    result: Any
    state_version: int | None = Field(
        None, description="The mission's state_version that it was made under; it stands when that grows."
    )
    confidence: float = Field(description="Of the verdict that accepted it, 0 to 1.")
    verdict: Verdict | None = Field(description="The verdict that accepted it.")
    attempts: int
    spent_microusd: int
    finished_at: datetime | None
    next: str = Field("", description="Give it as `after` to go on behind this result.")


class ReviewView(View):
    """A task that waits for a human's answer."""

    task_id: str
    mission_id: str
    agent: str
    goal: str
    input: Any
    result: Any = Field(description="What would be accepted.")
    has_result: bool = Field(description="Without a result, it can only be rejected (tried again).")
    actions: tuple[dict[str, Any], ...] = Field(
        (), description="What is carried out if it is approved, and never if it is rejected."
    )
    reason: str = Field(description="judge (unsure, or a sensitive topic), judge_error or state_churn.")
    attempt: int
    verdicts: tuple[Verdict, ...]
    spent_microusd: int
    last_error: str


class AgentView(View):
    """A registered agent."""

    name: str
    description: str = ""
    blocking: bool = False
    source: str = ""
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    options_schema: dict[str, Any] | None = None


class SpendView(View):
    """A tenant's money."""

    tenant: str
    limits_microusd: dict[str, int] = Field(
        description="By what they limit: `day`, `agent/NAME/day`, `model/NAME/hour` …; what has none is free."
    )
    settled_microusd: dict[str, int] = Field(
        description="Spent by window: `lifetime`, `year:2026`, `month:2026-11`, `day:2026-11-22` …, UTC."
    )
    held_microusd: int = Field(description="Reserved by calls that are under way.")


class GovernorView(View):
    """A tenant's brake: where it stands, why, and what it is decided on."""

    tenant: str
    state: BrakeState
    cause: BrakeCause
    since: datetime | None = Field(description="When it moved last; null when it never did.")
    by: str = Field(description="Who moved it: the governor, a key, or the operator.")
    reason: str = Field(description="In the words of the person who moved it.")
    override_until: datetime | None = Field(
        description="Until then it stays open whatever is spent; null when nobody overrides it."
    )
    burn: dict[str, float | int] = Field(
        description="As of now: `burn_short` and `burn_long` in multiples of the plan, then µ$ and seconds."
    )
    thresholds: dict[str, float | int] = Field(description="What moves it: `throttle_burn`, `freeze_burn` …")


class Health(View):
    """Whether one part of the hub is well, and if not what to do."""

    ok: bool
    detail: str = ""


class WorkerView(View):
    """A live worker of the caller's swarm."""

    worker: str
    pid: int = Field(0, description="Its process, on its own node; 0 when not yet known.")
    slots: int
    busy: int
    draining: bool
    seen_at: datetime | None = Field(description="Its last heartbeat, by the store's clock.")


class FleetView(View):
    """The caller's swarm, and the hub it hangs on. Other tenants' workers are not shown."""

    tenant: str
    workers: tuple[WorkerView, ...]
    slots: int
    busy: int
    reviews: int = Field(description="Results that wait for a judge.")
    inbox: int = Field(description="Tasks that wait for a human.")
    hub: dict[str, Health] = Field(description="orchestrator, judge, governor, redis: as far as known.")


class ReadyView(View):
    """Whether the hub can take work and do it."""

    ready: bool
    parts: dict[str, Health]


class VersionView(View):
    """What answers here."""

    version: str
    api: str = "v1"


class Problem(BaseModel):
    """An error on the wire (RFC 9457, ``application/problem+json``).

    Beside the members of the standard it carries the fields of the error it was made from, such
    as ``limit_microusd`` or ``problems``; `model_extra` has them.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    """``urn:chimera:problem:<kind>``."""
    title: str
    status: int
    detail: str = ""
    """What is wrong and what to do next, in words."""
    request_id: str = ""

    @property
    def kind(self) -> str:
        """The last part of `type`: ``budget-exceeded``."""
        return self.type.rpartition(":")[2]


def problem_kind(error: type[Exception]) -> str:
    """An error class's name on the wire: ``BudgetExceeded`` → ``budget-exceeded``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()


def problem_fields(error: type[Exception]) -> tuple[str, ...]:
    """The fields an error class is made from, in order; none for those that are one sentence."""
    if error.__init__ is Exception.__init__:
        return ()
    return tuple(inspect.signature(error).parameters)


def problem_member(field: str) -> str:
    """What a field of an error is called in its document, where the standard's names come first."""
    if field == "summary":
        return "detail"
    return f"error_{field}" if field in Problem.model_fields else field
