"""A task: one piece of a mission's work, and the state machine it moves through.

``TRANSITIONS`` is the only statement of that machine: the Lua scripts, the documentation and
the tests are checked against it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Priority(StrEnum):
    """High always goes first; medium and low share one rank, so that low is never starved."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class TaskStatus(StrEnum):
    """Where a task stands."""

    BLOCKED = "BLOCKED"
    """Waits for the results of other tasks."""
    READY = "READY"
    """May be claimed by a worker."""
    PENDING = "PENDING"
    """Claimed under a lease and not yet settled."""
    REVIEW = "REVIEW"
    """Its result waits for, or is with, the judge."""
    ESCALATED = "ESCALATED"
    """Waits for a human's answer."""
    ACCEPTED = "ACCEPTED"
    """Judged good: the commit record. Final."""
    FAILED = "FAILED"
    """Gave up, for a stated reason. Final unless redriven."""
    CANCELLED = "CANCELLED"
    """Ended with its mission, or because what it needs failed. Final unless that comes back."""


S = TaskStatus

TRANSITIONS: dict[tuple[TaskStatus, TaskStatus], str] = {
    (S.BLOCKED, S.READY): "unblocked: everything it depends on is accepted (or it takes partial inputs)",
    (S.BLOCKED, S.CANCELLED): "upstream_failed, or the mission ended",
    (S.READY, S.PENDING): "claimed by a worker under a lease",
    (S.READY, S.CANCELLED): "the mission ended",
    (S.PENDING, S.REVIEW): "submitted: the worker handed in a result",
    (S.PENDING, S.READY): "handed back, failed or timed out with attempts left, stale, or rescued",
    (S.PENDING, S.FAILED): "the last attempt failed or timed out, or the task is poisoned",
    (S.PENDING, S.ESCALATED): "state_churn: too many stale results",
    (S.PENDING, S.CANCELLED): "the mission ended",
    (S.REVIEW, S.ACCEPTED): "accepted by the judge",
    (S.REVIEW, S.READY): "rejected with attempts left, or stale",
    (S.REVIEW, S.ESCALATED): "escalated: unsure, a sensitive topic, state_churn, or the judge broke",
    (S.REVIEW, S.FAILED): "rejected on the last attempt",
    (S.REVIEW, S.CANCELLED): "the mission ended",
    (S.ESCALATED, S.ACCEPTED): "approved by a human",
    (S.ESCALATED, S.READY): "rejected by a human with attempts left, or stale",
    (S.ESCALATED, S.FAILED): "rejected by a human on the last attempt",
    (S.ESCALATED, S.CANCELLED): "the mission ended",
    (S.FAILED, S.READY): "redriven: a fresh set of attempts",
    (S.CANCELLED, S.READY): "revived: its mission was resumed or redriven",
    (S.CANCELLED, S.BLOCKED): "revived, and waits for others again",
}
"""(from, to) → why a task makes that step. A step that is not here is impossible."""

FINAL = frozenset({S.ACCEPTED, S.FAILED, S.CANCELLED})
OPEN = frozenset(set(TaskStatus) - FINAL)


class TaskContext(BaseModel):
    """What an agent is given to work with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    goal: str
    """What the mission is for."""
    data: dict[str, Any] = {}
    """The mission's context document."""
    input: Any = None
    """This task's own input item."""
    inputs: dict[str, Any] = {}
    """Accepted results of the tasks it depends on, by task id, in their order."""
    feedback: tuple[str, ...] = ()
    """What the judge said of earlier attempts, oldest first."""


class Task(BaseModel):
    """A task on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str
    task_type: str
    """The registered name of the agent that does it."""
    priority: Priority
    context: TaskContext
    status: TaskStatus

    @property
    def input(self) -> Any:
        """This task's own input item."""
        return self.context.input
