"""A mission's record: what is stored of it, read from its hashes or made as it was acknowledged."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from chimera.core.action import ActionStatus
from chimera.core.mission import MissionBase, MissionStatus
from chimera.core.plan import Window

STATUSES = ("BLOCKED", "READY", "PENDING", "REVIEW", "ESCALATED", "ACCEPTED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class MissionState:
    """The state document: what tasks are done under. Its version grows with every edit."""

    version: int
    goal: str
    context: dict[str, Any]
    traceparent: str = ""
    """The trace that it was submitted within, as `chimera.core.trace` reads it; "": it has one of its own."""


@dataclass(frozen=True)
class MissionRecord:
    """A mission as stored."""

    mission_id: str
    status: MissionStatus
    reason: str
    state: MissionState
    spec: MissionBase
    """As submitted; `state` holds goal and context as they are now."""
    inputs: int
    planned: int
    """Inputs (or dag nodes) planned so far."""
    planned_all: bool
    total_tasks: int
    counts: dict[str, int]
    """Tasks by status; those not yet planned are in none."""
    tallies: dict[str, int]
    """Crashes, lapses, errors, timeouts, rejections, stale results."""
    submitted_at_us: int
    finished_at_us: int
    deadline_us: int | None
    budget_microusd: int
    settled_microusd: int
    held_microusd: int
    actions: dict[str, int]
    """Accepted results' actions by status."""
    wanted_microusd: int
    """The reservation that found the budget exhausted; 0 when none did."""
    archived_at_us: int = 0
    """Since when its dossier is what counts; 0 while it is here."""
    large: bool = False
    """Its accepted tasks leave Redis while it goes on."""
    shelved: int = 0
    """How many did."""

    @property
    def archived(self) -> bool:
        """Whether it can only be read any more, from its dossier."""
        return self.archived_at_us > 0


def made(
    mission_id: str,
    spec: MissionBase,
    window: Window | None,
    *,
    inputs: int,
    tasks: int,
    now_us: int,
    traceparent: str = "",
) -> MissionRecord:
    """A mission as it was acknowledged; what became of it since is not in it."""
    born = Counter("BLOCKED" if task.waits_for else "READY" for task in window.tasks) if window else Counter()
    return MissionRecord(
        mission_id=mission_id,
        status=MissionStatus.RUNNING if window else MissionStatus.PLANNING,
        reason="",
        state=MissionState(1, spec.goal, spec.context, traceparent),
        spec=spec,
        inputs=inputs,
        planned=window.cursor if window else 0,
        planned_all=window is not None,
        total_tasks=tasks,
        counts={status: born[status] for status in STATUSES},
        tallies={},
        submitted_at_us=now_us,
        finished_at_us=0,
        deadline_us=None if spec.deadline_s is None else now_us + round(spec.deadline_s * 1e6),
        budget_microusd=spec.budget_microusd,
        settled_microusd=0,
        held_microusd=0,
        actions=dict.fromkeys(ActionStatus, 0),
        wanted_microusd=0,
    )


def record(
    mission_id: str,
    mission: dict[str, str],
    counts: dict[str, str],
    spend: dict[str, str],
    outcomes: dict[str, str],
) -> MissionRecord:
    """A mission from its hashes: itself, its tasks by status, its spend, its actions by status.

    Raises:
        KeyError, ValueError, TypeError: one of them cannot be read.
    """
    return MissionRecord(
        mission_id=mission_id,
        status=MissionStatus(mission["status"]),
        reason=mission.get("reason", ""),
        state=MissionState(
            int(mission["state_version"]),
            mission["goal"],
            json.loads(mission["context"]),
            mission.get("traceparent", ""),
        ),
        spec=MissionBase.model_validate_json(mission["spec"]),
        inputs=int(mission["inputs"]),
        planned=int(mission["planned"]),
        planned_all=mission["planned_all"] == "1",
        total_tasks=int(mission["total_tasks"]),
        counts={status: int(counts.get(status, 0)) for status in STATUSES},
        tallies={name: int(value) for name, value in counts.items() if name not in STATUSES and int(value)},
        submitted_at_us=int(mission["submitted_at"]),
        finished_at_us=int(mission.get("finished_at", 0)),
        deadline_us=int(mission["deadline"]) if mission.get("deadline") else None,
        budget_microusd=int(mission["budget"]),
        settled_microusd=int(spend.get("settled", 0)),
        held_microusd=int(spend.get("held", 0)),
        actions={status: int(outcomes.get(status, 0)) for status in ActionStatus},
        wanted_microusd=int(spend.get("wanted", 0)) if spend.get("exhausted") == mission["budget"] else 0,
        archived_at_us=int(mission.get("archived_at", 0)),
        large="large" in mission,
        shelved=int(mission.get("shelved", 0)),
    )
