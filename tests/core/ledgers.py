"""Recorder entries about money, made by hand."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from chimera.core.event import Event

START = datetime(2026, 11, 28, 10, tzinfo=UTC)
_holds = itertools.count(1)


class Book:
    """A recorder to write in: events in order, on a clock that is moved by hand."""

    def __init__(self, start: datetime = START) -> None:
        self.now, self.events = start, list[Event]()
        self.epoch, self.seq = 1, 0

    def note(self, kind: str, task: str = "", /, **details: Any) -> Event:
        """One entry."""
        self.seq += 1
        mission = task.partition(".")[0]
        event = Event(
            epoch=self.epoch,
            seq=self.seq,
            at=self.now,
            kind=kind,
            by="g",
            mission_id=mission,
            task_id=task,
            details=details,
        )
        self.events.append(event)
        return event

    def wait(self, **span: float) -> None:
        """Time passes."""
        self.now += timedelta(**span)

    def hold(self, task: str = "m1.0", amount: int = 100, agent: str = "a", model: str = "m") -> str:
        """A grant; its hold's id."""
        hold = f"h{next(_holds)}"
        self.note("spend.held", task, hold=hold, amount=amount, agent=agent, model=model)
        return hold

    def settle(self, hold: str, cost: int, task: str = "m1.0", over: int = 0, **charge: Any) -> Event:
        """A call's real cost."""
        more = {"over": over} if over else {}
        told = json.dumps({"model": "m", "cost_microusd": cost, **charge})
        return self.note("spend.settled", task, hold=hold, cost=cost, charge=told, **more)

    def expire(self, hold: str, cost: int, task: str = "m1.0") -> Event:
        """A hold ran out."""
        return self.note("spend.expired", task, hold=hold, cost=cost, sent=cost > 0)

    def call(self, cost: int, task: str = "m1.0", agent: str = "a", model: str = "m", **charge: Any) -> None:
        """A call, held and settled at once."""
        self.settle(self.hold(task, max(cost, 1), agent, model), cost, task, **{"model": model, **charge})
