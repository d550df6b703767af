"""The ledger, replayed from the flight recorder: what every figure of it must be, at every level. Pure.

Events go in, one at a time and oldest first; what they charge comes out, and adds up. Who keeps it for an
audit, a report or the drill's checker asks for what is wrong, what is held and what is settled.

Levels are **subjects**, each with all of its windows: the tenant itself (``""``), ``agent/NAME``,
``model/NAME``; and missions, which have no windows.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chimera.core.calendar import is_kept, window_ids
from chimera.core.event import Event
from chimera.core.money import Window

TENANT = ""
"""The subject that is the tenant itself."""
LONGEST_HOLD_S = 4 * 3_600
"""No hold lives longer, whatever is asked for: what is held for a call that nobody ends is free again. The
longest that the settings ask for (`CHIMERA_CHAT_STREAM_S` + `CHIMERA_HOLD_TTL_S`, each at its most)."""
CORRECTED = timedelta(hours=2)
"""A hold that ended is known to the store for an hour: nothing corrects it later than this."""
MOST_WRONG = 1_000
"""Faults that are told of one replay; more are counted."""


@dataclass(slots=True)
class Hold:
    """A grant.

    Attributes:
        charged: what stands in the books for it; None while it is open.
        expired_at: it ran out then, and may still be corrected.
        ended_at: the last entry that ended it.
    """

    task_id: str
    mission_id: str
    amount: int
    granted_at: datetime
    agent: str = ""
    model: str = ""
    charged: int | None = None
    expired_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def subjects(self) -> Iterator[str]:
        """Whose money it is, beside its mission's."""
        return subjects(self.agent, self.model)


@dataclass(frozen=True, slots=True)
class Change:
    """What one entry charges, or gives back.

    Attributes:
        at: the instant whose windows it goes to: of what was charged too much that of the charge.
        amount: µ$; negative when it gives back.
        first: the hold was open until now; else it had run out, and is corrected.
        charge: the call's own account (`chimera.agents.purse.Charge`), as it was recorded; None where the
            call never came to say.
    """

    event: Event
    hold: Hold
    at: datetime
    amount: int
    first: bool = True
    charge: Mapping[str, Any] | None = None


def subjects(agent: str, model: str) -> Iterator[str]:
    """The subjects of a call: the tenant, its agent and its model, as far as they are known."""
    yield TENANT
    if agent:
        yield f"agent/{agent}"
    if model:
        yield f"model/{model}"


def window_of_limit(limit: str) -> tuple[str, Window]:
    """``agent/NAME/day`` → its subject and its window; ``day`` is the tenant's own. Raises ValueError."""
    subject, _, window = limit.rpartition("/")
    return subject, Window(window)


@dataclass
class Replay:
    """One tenant's money, as far as it was replayed.

    Args:
        keep: remember every hold; else only those that something may still change.
        sums: add up every level's figures, and check grants against limits; else only what each entry charges
            is told.
        missions: those whose figures are wanted; None: of all.
        budget: a mission's budget as of an entry (its sequence number); None: it is not known, and no grant
            is checked against it.
    """

    keep: bool = False
    sums: bool = True
    missions: frozenset[str] | None = None
    budget: Callable[[str, int], int | None] = lambda mission, seq: None
    holds: dict[str, Hold] = field(default_factory=dict)
    settled: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By subject and window id."""
    held: Counter[str] = field(default_factory=Counter)
    """By subject."""
    spent: Counter[str] = field(default_factory=Counter)
    """Settled by mission."""
    mission_held: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    """Calls that were charged, by subject: when they were settled, or ran out after they were sent."""
    limits: dict[str, int] = field(default_factory=dict)
    """In force now: ``day``, ``agent/NAME/day`` … → µ$."""
    wrong: list[str] = field(default_factory=list)
    """What cannot be, in words: at most `MOST_WRONG`."""
    wrongs: int = 0
    entries: int = 0
    """Entries about money."""
    seq: int = 0
    at: datetime | None = None
    _bounds: dict[str, list[tuple[Window, int]]] = field(default_factory=dict)
    """The limits by subject."""
    _ended: deque[tuple[datetime, Hold, str]] = field(default_factory=deque)
    """Holds that ended, in their order: forgotten when nothing can correct them any more."""
    _cleared: datetime | None = None

    def take(self, event: Event) -> Change | None:
        """Replay one entry. What it charges; None when it charges nothing."""
        self.seq, self.at = event.seq, event.at
        match event.kind:
            case "limits.set":
                self._limit(limits_of(event.details))
            case "spend.held":
                self.entries += 1
                self._grant(event)
            case "spend.settled" | "spend.released" | "spend.expired":
                self.entries += 1
                self._forget(event.at)
                return self._end(event)
        return None

    @property
    def open_holds(self) -> dict[str, Hold]:
        """Holds that have not ended."""
        return {name: hold for name, hold in self.holds.items() if hold.charged is None}

    def is_wrong(self, what: str) -> None:
        """Note what cannot be."""
        self.wrongs += 1
        if len(self.wrong) < MOST_WRONG:
            self.wrong.append(what)

    def _limit(self, limits: dict[str, int]) -> None:
        self.limits, self._bounds = limits, {}
        for name, most in limits.items():
            subject, window = window_of_limit(name)
            self._bounds.setdefault(subject, []).append((window, most))

    def _grant(self, event: Event) -> None:
        details, mission = event.details, event.mission_id
        name, amount = str(details["hold"]), int(details["amount"])
        if amount < 0:
            self.is_wrong(f"{mission}: entry {event.seq} holds {amount}, less than nothing")
        if name in self.holds:
            self.is_wrong(f"{mission}: entry {event.seq} grants hold {name} a second time")
            return
        agent, model = str(details.get("agent", "")), str(details.get("model", ""))
        hold = self.holds[name] = Hold(event.task_id, mission, amount, event.at, agent, model)
        if self.sums:
            self._hold(event, hold)

    def _hold(self, event: Event, hold: Hold) -> None:
        if self._wants(hold.mission_id):
            mission = hold.mission_id
            self.mission_held[mission] += hold.amount
            if (budget := self.budget(mission, event.seq)) is not None:
                self._within(event, "its budget", self.spent[mission], self.mission_held[mission], budget)
        ids = dict(zip(Window, window_ids(event.at), strict=True)) if self._bounds else {}
        for subject in hold.subjects:
            self.held[subject] += hold.amount
            for window, most in self._bounds.get(subject, ()):
                settled = self.settled[subject, ids[window]]
                whose = f"the limit of {subject} a {window}" if subject else f"the tenant's limit a {window}"
                self._within(event, whose, settled, self.held[subject], most)

    def _within(self, event: Event, whose: str, settled: int, held: int, limit: int) -> None:
        if settled + held > limit:
            self.is_wrong(
                f"{event.mission_id}: entry {event.seq} grants {event.details['amount']}: {settled} settled "
                f"and {held} held of {limit}, {whose}"
            )

    def _end(self, event: Event) -> Change | None:
        details = event.details
        name, cost = str(details.get("hold", "")), int(details.get("cost", 0))
        hold = self.holds.get(name)
        if hold is None or (hold.charged is not None and hold.expired_at is None):
            self.is_wrong(f"{event.mission_id}: entry {event.seq} ends hold {name}, which is not open")
            return None
        # A real cost above the hold says by how much: it is charged all the same, for it was spent.
        if not 0 <= cost <= hold.amount + max(0, int(details.get("over", 0))):
            self.is_wrong(f"{event.mission_id}: entry {event.seq} charges {cost} to a hold of {hold.amount}")
        before, when = hold.charged, event.at
        if before is not None and cost < before and hold.expired_at is not None:
            when = hold.expired_at  # what was charged too much goes back to where it was charged
        more = cost - (before or 0)
        if self.sums:
            self._book(event, hold, more, when)
        hold.charged, hold.ended_at = cost, event.at
        hold.expired_at = event.at if event.kind == "spend.expired" else None
        self._ended.append((event.at, hold, name))
        return Change(event, hold, when, more, before is None, _charge_of(details))

    def _book(self, event: Event, hold: Hold, more: int, when: datetime) -> None:
        wanted = self._wants(hold.mission_id)
        if hold.charged is None:
            called = event.kind == "spend.settled" or (
                event.kind == "spend.expired" and bool(event.details.get("sent"))
            )
            for subject in hold.subjects:
                self.held[subject] -= hold.amount
                self.calls[subject] += called
            if wanted:
                self.mission_held[hold.mission_id] -= hold.amount
        if more:
            ids = window_ids(when)
            for subject in hold.subjects:
                for identity in ids:
                    self.settled[subject, identity] += more
            if wanted:
                self.spent[hold.mission_id] += more

    def _wants(self, mission: str) -> bool:
        return bool(mission) and (self.missions is None or mission in self.missions)

    def _forget(self, now: datetime) -> None:
        """What nothing can change, and no ledger is sure to have, any more."""
        if self.keep:
            self._ended.clear()
            return
        while self._ended and now - self._ended[0][0] > CORRECTED:
            ended, hold, name = self._ended.popleft()
            if hold.ended_at == ended:  # nothing ended it again meanwhile
                self.holds.pop(name, None)
        if self._cleared is None or now - self._cleared > CORRECTED:
            self._cleared = now
            kept = {identity for _, identity in self.settled if is_kept(identity, now - CORRECTED)}
            for key in [key for key in self.settled if key[1] not in kept]:
                del self.settled[key]


def _charge_of(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    text = details.get("charge")
    if not text:
        return None
    try:
        charge = json.loads(text)
    except (TypeError, ValueError):
        return None  # a caller may hand in what it likes: the cost beside it is what counts
    return charge if isinstance(charge, dict) else None


def limits_of(details: Mapping[str, Any]) -> dict[str, int]:
    """The limits that an entry ``limits.set`` sets."""
    limits = details.get("limits", details)
    return {name: int(limit) for name, limit in limits.items()} if isinstance(limits, Mapping) else {}


def surviving(events: Iterable[Event], starts: Mapping[int, int] | None = None) -> Iterator[Event]:
    """Those of a recorder's events that the store still stands by.

    A store that came back without its last writes goes on behind the last event it had, in a new epoch. What
    was
    archived of the rest is history that the store lost: its ledger does not have it.

    Args:
        starts: epoch → number of the event that it begins behind; by default as the events themselves say.
    """
    if starts is None:
        events = list(events)
        starts = {
            event.epoch: int(event.details.get("after", 0))
            for event in events
            if event.kind == "recorder.epoch"
        }
    for event in events:
        if survives(event, starts):
            yield event


def survives(event: Event, starts: Mapping[int, int]) -> bool:
    """Whether the store still stands by an event: no later epoch begins before it."""
    return all(event.seq <= after for epoch, after in starts.items() if epoch > event.epoch)
