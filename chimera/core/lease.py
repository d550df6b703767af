"""Leases: the right to work on a task for a while, and what became of asking to keep it.

The token is the fence: it grows with every claim of a task and must be current in every later
write. `expires_at_us` is the store's clock; a holder's own clock may only shorten its trust.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from chimera.core.action import Action, parse_actions

Lease: TypeAlias = tuple[str, int]
"""Task id and token. A worker may hold two of one task: a lost one that has not ended, and a new one."""


@dataclass(frozen=True)
class Claim:
    """A task claimed under a lease (PENDING)."""

    task_id: str
    token: int
    attempt: int
    expires_at_us: int
    mission_id: str
    state_version: int
    """The mission's when it was claimed; the result must be made under it."""
    stage: str
    input_json: str
    depends_on: tuple[str, ...]
    """Names of the tasks of this mission whose results it takes."""
    feedback: tuple[str, ...]
    round: int
    """Times the task was rejected or redriven. Runs of one round are one work: none pays twice for a call."""

    @property
    def lease(self) -> Lease:
        """What it is held under."""
        return self.task_id, self.token

    @cached_property
    def input(self) -> Any:
        """The input item."""
        return json.loads(self.input_json) if self.input_json else None


@dataclass(frozen=True)
class Review:
    """A result a judge holds under a lease."""

    task_id: str
    token: int
    attempt: int
    state_version: int
    mission_id: str
    stage: str
    input_json: str
    depends_on: tuple[str, ...]
    result_json: str
    judge_errors: int
    round: int
    """As the claim's that the result was made under."""
    actions_json: str
    claimed_at_us: int
    """When the judge took it, by the store's clock."""

    @cached_property
    def input(self) -> Any:
        """The input item."""
        return json.loads(self.input_json) if self.input_json else None

    @cached_property
    def result(self) -> Any:
        """What the agent returned."""
        return json.loads(self.result_json)

    @cached_property
    def actions(self) -> tuple[Action, ...]:
        """What the agent proposed with it. ValueError when that cannot be read."""
        return parse_actions(self.actions_json)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a heartbeat learned.

    Args:
        now_us: the store's clock.
        drain: the worker is asked to take no more work and leave.
        hurry_s: when it drains, what is not of high priority may go on for so long; None for as long as the
            worker's settings say.
        lost: lease → why it is gone (a `LeaseLost`).
        overdue: leases whose attempt has used up its time; not renewed.
    """

    now_us: int
    drain: bool
    lost: dict[Lease, Exception]
    overdue: tuple[Lease, ...]
    hurry_s: float | None = None
