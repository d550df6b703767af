"""What a tenant's money went to, by mission, agent, model and day; and the hours of its workers. Pure.

Made of the flight recorder's events as they come, in bounded memory: the ledger's own counters know totals
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from chimera.core.event import Event
from chimera.core.replay import LONGEST_HOLD_S, Change, Replay

MOST_ROWS = 5_000
"""Rows of one report; what comes beyond them is one row, `OTHERS`."""
OTHERS = "(others)"
NO_MISSION = "(no mission)"
"""Of a call that the tenant alone pays."""
NOT_KNOWN = "(not known)"
"""Of a charge that was recorded before agents and models were."""
MOST_WORKERS = 100_000
"""Workers that are followed at once."""


class By(StrEnum):
    """What charges are told apart by."""

    TENANT = "tenant"
    MISSION = "mission"
    AGENT = "agent"
    MODEL = "model"
    DAY = "day"


@dataclass(slots=True)
class Use:
    """Some charges together.

    Attributes:
        cost_microusd: what they come to, corrections included.
        calls: calls that were charged.
        input_tokens: with the cached; `output_tokens`: with those of reasoning. The provider's own counts.
        estimated: of the calls those charged at their worst case, for nobody knows what they cost.
        refused: reservations that a limit refused.
        over_microusd: by how much calls cost more than was held for them.
    """

    cost_microusd: int = 0
    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: int = 0
    refused: int = 0
    over_microusd: int = 0

    def charge(self, change: Change) -> None:
        """Add one change of the ledger."""
        self.cost_microusd += change.amount
        details, charge = change.event.details, change.charge or {}
        expired = change.event.kind == "spend.expired"
        # A hold that had run out and was charged for its call: what came late takes that guess's place.
        guessed = not change.first and (change.hold.charged or 0) - change.amount > 0
        called = change.event.kind == "spend.settled" or (expired and bool(details.get("sent")))
        self.calls += called - guessed
        self.estimated += (called and (expired or bool(charge.get("estimated")))) - guessed
        self.over_microusd += count(details, "over")
        self.input_tokens += count(charge, "input_tokens")
        self.cached_tokens += count(charge, "cached_tokens")
        self.output_tokens += count(charge, "output_tokens")
        self.reasoning_tokens += count(charge, "reasoning_tokens")

    def add(self, other: Use) -> None:
        """Add another's."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def count(charge: Mapping[str, Any], name: str) -> int:
    """A figure of a charge; 0 where it can be none, for agents' own processes write it."""
    value = charge.get(name, 0)
    return value if type(value) is int and 0 <= value <= 10**12 else 0


@dataclass
class Usage:
    """Charges within a span, told apart. Feed it events from `LEAD_S` before that span on.

    Args:
        by: what rows are told apart by; none: one row.
        since, until: the span; until is not in it. A correction belongs to the instant that it corrects.
        mission_id: only this one's; "": all.
    """

    by: Sequence[By]
    since: datetime
    until: datetime
    tenant: str = ""
    mission_id: str = ""
    rows: dict[tuple[str, ...], Use] = field(default_factory=dict)
    total: Use = field(default_factory=Use)
    folded: int = 0
    """Charges that found no row of their own."""
    events: int = 0
    """Events of the span about money."""
    first_at: datetime | None = None
    """Of these the first."""
    last_at: datetime | None = None
    replay: Replay = field(default_factory=lambda: Replay(sums=False))

    def take(self, event: Event) -> Change | None:
        """Add one event; the change of the ledger that it is, if it is in the span."""
        change = self.replay.take(event)
        if change is not None:
            if self._wants(change.at, change.hold.mission_id):
                self._saw(event)
                hold, charge = change.hold, change.charge or {}
                agent, model = hold.agent, hold.model or str(charge.get("model", ""))[:200]
                for use in self._of(change.at, hold.mission_id, agent, model):
                    use.charge(change)
                return change
        elif event.kind == "spend.refused" and self._wants(event.at, event.mission_id):
            self._saw(event)
            details = event.details
            agent, model = str(details.get("agent", "")), str(details.get("model", ""))
            for use in self._of(event.at, event.mission_id, agent, model):
                use.refused += 1
        return None

    def _wants(self, at: datetime, mission_id: str) -> bool:
        return self.since <= at < self.until and self.mission_id in {"", mission_id}

    def _saw(self, event: Event) -> None:
        self.events += 1
        self.first_at, self.last_at = self.first_at or event.at, event.at

    def _of(self, at: datetime, mission_id: str, agent: str, model: str) -> tuple[Use, Use]:
        parts = {
            By.TENANT: self.tenant,
            By.MISSION: mission_id or NO_MISSION,
            By.AGENT: agent,
            By.MODEL: model,
            By.DAY: at.date().isoformat(),
        }
        key = tuple(parts[one] or NOT_KNOWN for one in self.by)
        if key not in self.rows and len(self.rows) >= MOST_ROWS:
            self.folded += 1
            key = tuple(OTHERS for _ in self.by)
        return self.total, self.rows.setdefault(key, Use())


LEAD_S = LONGEST_HOLD_S + 3_600
"""What a hold lives, and one hour more in which it is corrected. So every hold that ends in a span was
granted no longer before it."""


@dataclass
class WorkerHours:
    """How long workers lived within a span, from what the recorder says of their coming and going.

    Attributes:
        spans: workers whose time is known from their start.
        guessed: workers that were there before the first event that was read: counted from `since`.
    """

    since: datetime
    until: datetime
    seconds: float = 0.0
    spans: int = 0
    guessed: int = 0
    _alive: dict[str, datetime] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add one event."""
        worker = str(event.details.get("worker", ""))
        if event.kind == "worker.started" and len(self._alive) < MOST_WORKERS:
            self._alive.setdefault(worker, event.at)
        elif event.kind == "worker.ended":
            began = self._alive.pop(worker, None)
            self._add(began or self.since, event.at, began is not None)

    def finish(self, alive: Sequence[str], now: datetime) -> None:
        """End it: who is alive now was until now; who is neither that nor ended counts to the end too."""
        for began in self._alive.values():
            self._add(began, now, True)
        for worker in alive:
            if worker not in self._alive:
                self._add(self.since, now, False)
        self._alive = {}

    def _add(self, began: datetime, ended: datetime, known: bool) -> None:
        seconds = (min(ended, self.until) - max(began, self.since)).total_seconds()
        if seconds > 0:
            self.seconds += seconds
            self.spans += known
            self.guessed += not known
