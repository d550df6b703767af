"""What a mission says of itself: goal, status, what to do, money, counts, times; and what may be done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import Field

from chimera.core.mission import MISSION_FINAL, MissionStatus
from chimera.core.task import OPEN, TaskStatus
from chimera.core.views import MissionView, View
from chimera.dashboard.payload import Payload, payload

REDRIVABLE = frozenset({"min_accepted", "task_failed"})
"""A mission that failed for one of these goes on when its tasks are redriven."""


class MissionHead(View):
    """A mission as it stands."""

    mission: MissionView
    still: bool = Field(description="It and all its tasks are final.")
    as_of: datetime = Field(description="By the store's clock.")

    @property
    def goal(self) -> Payload:
        """What it is for."""
        return payload(self.mission.goal)

    @property
    def elapsed_s(self) -> float:
        """From its submit to its end, or to now."""
        return ((self.mission.finished_at or self.as_of) - self.mission.submitted_at).total_seconds()

    @property
    def budget_share(self) -> float:
        """Of its budget, what is spent, 0 to 1."""
        return min(1.0, self.mission.spent_microusd / max(1, self.mission.budget_microusd))

    @property
    def held_share(self) -> float:
        """Of its budget, what calls under way hold beside that."""
        left = 1 - self.budget_share
        return min(left, self.mission.held_microusd / max(1, self.mission.budget_microusd))

    @property
    def unplanned(self) -> int:
        """Tasks that were not made yet."""
        return max(0, self.mission.total_tasks - self.mission.planned)

    @property
    def may_pause(self) -> bool:
        """Whether it can be held."""
        return not self.mission.archived and self.mission.status not in {*MISSION_FINAL, MissionStatus.PAUSED}

    @property
    def may_cancel(self) -> bool:
        """Whether it can be ended."""
        return not self.mission.archived and self.mission.status not in MISSION_FINAL

    @property
    def needs_budget(self) -> bool:
        """Whether it goes on under a larger budget alone."""
        return self.mission.status is MissionStatus.FAILED and self.mission.reason == "budget_exceeded"

    @property
    def may_resume(self) -> bool:
        """Whether it can go on."""
        return not self.mission.archived and (
            self.mission.status is MissionStatus.PAUSED or self.needs_budget
        )

    @property
    def may_redrive(self) -> bool:
        """Whether its failed tasks can have a fresh set of attempts."""
        status, reason = self.mission.status, self.mission.reason
        ended_otherwise = status is MissionStatus.CANCELLED or (
            status is MissionStatus.FAILED and reason not in REDRIVABLE
        )
        return bool(self.mission.failed) and not self.mission.archived and not ended_otherwise


def mission_head(mission: MissionView, now_us: int) -> MissionHead:
    """A mission's head."""
    return MissionHead(
        mission=mission,
        still=is_over(mission.status, mission.counts),
        as_of=datetime.fromtimestamp(now_us / 1e6, UTC),
    )


def is_over(status: MissionStatus, counts: Mapping[TaskStatus, int] | Mapping[str, int]) -> bool:
    """Whether a mission and all its tasks are final: nothing of note will follow."""
    return status in MISSION_FINAL and not any(counts.get(one, 0) for one in OPEN)
