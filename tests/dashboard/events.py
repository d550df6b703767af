"""A mission's events, told by hand: short steps for tests to build on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from chimera.core.event import Event

BEGAN = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


class Told:
    """Events of mission `m1`, a second apart unless told otherwise."""

    def __init__(self, total: int = 0, budget: int = 1_000_000) -> None:
        self.events: list[Event] = []
        self.at = BEGAN
        self.epoch = 1
        self.tell("mission.submitted", budget=budget, total=total)
        self.tell("mission.running")

    def tell(self, kind: str, task: str = "", /, after_s: float = 1.0, **details: Any) -> None:
        """One more; the number goes on from the last."""
        self.at += timedelta(seconds=after_s)
        seq = self.events[-1].seq + 1 if self.events else 1
        self.events.append(
            Event(
                epoch=self.epoch,
                seq=seq,
                at=self.at,
                kind=kind,
                by="test",
                mission_id="m1",
                task_id=f"m1.{task}" if task else "",
                details=details,
            )
        )

    def planned(self, tasks: int, ready: str, blocked: str = "", cursor: int = 0) -> None:
        """Tasks are made."""
        more: dict[str, Any] = {"blocked": blocked} if blocked else {}
        self.tell("mission.planned", tasks=tasks, cursor=cursor or tasks, ready=ready, **more)

    def accepted(self, task: str, *, cost: int = 0, attempt: int = 1) -> None:
        """A task from READY to ACCEPTED, at a price."""
        self.tell("task.claimed", task, attempt=attempt)
        if cost:
            hold = f"h{len(self.events)}"
            self.tell("spend.held", task, hold=hold, amount=2 * cost, agent="echo", model="m")
            self.tell("spend.settled", task, hold=hold, cost=cost)
        self.tell("task.submitted", task, attempt=attempt)
        self.tell("review.claimed", task)
        self.tell("task.accepted", task)
