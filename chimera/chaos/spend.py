"""Checks money: each ledger replayed from its recorder, against the store and the endpoint's journal."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from chimera.chaos.history import CLOCKS_S, History, TenantEnd
from chimera.core.event import Event
from chimera.core.money import Window

SPANS = {
    Window.MINUTE: "%Y-%m-%dT%H:%M",
    Window.HOUR: "%Y-%m-%dT%H",
    Window.DAY: "%Y-%m-%d",
    Window.MONTH: "%Y-%m",
    Window.YEAR: "%Y",
    Window.LIFETIME: "",
}
"""How instants of the same window look alike."""


@dataclass(slots=True)
class Hold:
    """A grant: what was held of it and what it was charged in the end; None while it is open."""

    task_id: str
    mission_id: str
    amount: int
    granted_at: datetime
    charged: int | None = None
    expired_at: datetime | None = None


class Ledger:
    """One tenant's money as its recorder has it."""

    def __init__(self, tenant: TenantEnd) -> None:
        self.holds: dict[str, Hold] = {}
        self.spent: Counter[str] = Counter()
        """Settled by mission."""
        self.wrong: list[str] = []
        self._held: Counter[str] = Counter()
        self._settled: Counter[tuple[Window, str]] = Counter()
        self._limits: dict[Window, int] = {}
        self._budgets = {one.mission_id: _Budget(one.budget_microusd) for one in tenant.missions}
        for event in tenant.events:
            if event.kind == "mission.resumed" and event.mission_id in self._budgets:
                self._budgets[event.mission_id].raised(event)
        for event in tenant.events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event.kind:
            case "limits.set":
                limits = event.details["limits"].items()
                self._limits = {Window(name): int(limit) for name, limit in limits if "/" not in name}
            case "spend.held":
                self._grant(event)
            case "spend.settled" | "spend.released" | "spend.expired":
                self._end(event)

    def _grant(self, event: Event) -> None:
        name, amount, mission = str(event.details["hold"]), int(event.details["amount"]), event.mission_id
        if amount < 0:
            self.wrong.append(f"{mission}: entry {event.seq} holds {amount}, less than nothing")
        if name in self.holds:
            self.wrong.append(f"{mission}: entry {event.seq} grants hold {name} a second time")
            return
        self.holds[name] = Hold(event.task_id, mission, amount, event.at)
        self._held[mission] += amount
        if mission in self._budgets:
            budget = self._budgets[mission].at(event.seq)
            self._within(event, "its budget", self.spent[mission], self._held[mission], budget)
        for window, limit in self._limits.items():
            settled = self._settled[window, event.at.strftime(SPANS[window])]
            self._within(event, f"the tenant's limit a {window}", settled, self._held.total(), limit)

    def _within(self, event: Event, whose: str, settled: int, held: int, limit: int) -> None:
        if settled + held > limit:
            self.wrong.append(
                f"{event.mission_id}: entry {event.seq} grants {event.details['amount']}: {settled} settled "
                f"and {held} held of {limit}, {whose}"
            )

    def _end(self, event: Event) -> None:
        name, cost = str(event.details.get("hold", "")), int(event.details.get("cost", 0))
        hold = self.holds.get(name)
        if hold is None or (hold.charged is not None and hold.expired_at is None):
            self.wrong.append(f"{event.mission_id}: entry {event.seq} ends hold {name}, which is not open")
            return
        if not 0 <= cost <= hold.amount:
            self.wrong.append(
                f"{event.mission_id}: entry {event.seq} charges {cost} to a hold of {hold.amount}"
            )
        before, when = hold.charged, event.at
        if before is None:
            self._held[hold.mission_id] -= hold.amount
        elif cost < before and hold.expired_at is not None:
            when = hold.expired_at  # what was charged too much goes back to where it was charged
        for window, span in SPANS.items():
            self._settled[window, when.strftime(span)] += cost - (before or 0)
        self.spent[hold.mission_id] += cost - (before or 0)
        hold.charged = cost
        hold.expired_at = event.at if event.kind == "spend.expired" else None


class _Budget:
    """A mission's budget over time: as it was given last, and by each raise before."""

    def __init__(self, last: int) -> None:
        self._raises: list[tuple[int, int]] = []
        self._last = last

    def raised(self, event: Event) -> None:
        if "budget" in event.details:
            self._raises.append((event.seq, int(event.details["budget"])))

    def at(self, seq: int) -> int:
        """What was in force at an entry. Before the first raise it was less than that."""
        before = [budget for raised, budget in self._raises if raised < seq]
        if before:
            return before[-1]
        return self._raises[0][1] if self._raises else self._last


def never_over_a_limit(history: History) -> tuple[int, list[str]]:
    """At each grant settled + held stays within budget and limits; no call was served without a hold granted
    before it; nothing served is uncharged; and the store's figures are the recorder's."""
    wrong, checked = [], 0
    for tenant in history.tenants.values():
        ledger = Ledger(tenant)
        checked += len(ledger.holds)
        wrong += ledger.wrong
        for mission in tenant.missions:
            stored, recorded = mission.settled_microusd, ledger.spent[mission.mission_id]
            if stored != recorded:
                wrong.append(f"{mission.mission_id}: {stored} settled in the store, {recorded} recorded")
    return checked, [*wrong, *_calls(history)]


def _calls(history: History) -> Iterator[str]:
    """Calls that the endpoint served, against the holds that there were for them."""
    granted: dict[str, list[float]] = defaultdict(list)
    charged: Counter[str] = Counter()
    for tenant in history.tenants.values():
        for hold in Ledger(tenant).holds.values():
            granted[hold.task_id].append(hold.granted_at.timestamp())
            charged[hold.task_id] += hold.charged or 0
    known = {event.task_id for tenant in history.tenants.values() for event in tenant.events}
    served: dict[str, list[float]] = defaultdict(list)
    cost: Counter[str] = Counter()
    for call in history.calls:
        if call["event"] == "served":
            served[call["task"]].append(call["at"])
            cost[call["task"]] += call.get("cost", 0)
    for task, at in served.items():
        if task not in known:
            yield f"a call for {task!r} was served, which is no task"
            continue
        holds = sorted(granted[task])
        for number, when in enumerate(sorted(at), start=1):
            if bisect_right(holds, when + CLOCKS_S) < number:
                yield f"{task}: call {number} of {len(at)} was served before as many holds were granted"
                break
        if cost[task] > charged[task]:
            yield f"{task}: calls for {cost[task]} µ$ were served, {charged[task]} charged"


def every_hold_ends(history: History) -> tuple[int, list[str]]:
    """When all is quiet nothing is held."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        holds = Ledger(tenant).holds
        checked += len(holds)
        wrong += [f"{name}: hold {hold} never ended" for hold, one in holds.items() if one.charged is None]
        if tenant.held_microusd or tenant.open_holds:
            wrong.append(f"{name}: {tenant.held_microusd} µ$ in {tenant.open_holds} holds at the end")
        for mission in tenant.missions:
            if mission.held_microusd:
                wrong.append(f"{mission.mission_id}: {mission.held_microusd} µ$ held at the end")
    return checked, wrong
