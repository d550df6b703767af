"""Checks money: each ledger replayed from its recorder, against the store and the endpoint's journal."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator

from chimera.chaos.history import CLOCKS_S, History, TenantEnd
from chimera.core.audit import drifts
from chimera.core.event import Event
from chimera.core.replay import Replay, surviving


def replayed(tenant: TenantEnd) -> Replay:
    """One tenant's money as its recorder has it."""
    budgets = {one.mission_id: _Budget(one.budget_microusd) for one in tenant.missions}
    for event in tenant.events:
        if event.kind == "mission.resumed" and event.mission_id in budgets:
            budgets[event.mission_id].raised(event)

    def budget(mission: str, seq: int) -> int | None:
        return budgets[mission].at(seq) if mission in budgets else None

    replay = Replay(keep=True, budget=budget)
    for event in surviving(tenant.events):
        replay.take(event)
    return replay


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
    """At each grant settled + held stays within budget and limits, at every level; no call was served without
    a hold granted before it; nothing served is uncharged; and the store's figures are the recorder's."""
    wrong, checked = [], 0
    for tenant in history.tenants.values():
        replay = replayed(tenant)
        checked += len(replay.holds)
        wrong += replay.wrong
        for mission in tenant.missions:
            stored, recorded = mission.settled_microusd, replay.spent[mission.mission_id]
            if stored != recorded:
                wrong.append(f"{mission.mission_id}: {stored} settled in the store, {recorded} recorded")
    return checked, [*wrong, *_calls(history)]


def ledger_is_the_recorders(history: History) -> tuple[int, list[str]]:
    """What `chimera spend audit` checks: every figure of a ledger is what its recorder says."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        replay = replayed(tenant)
        for cut in tenant.ledger:  # all of them at rest: no money moves any more
            found = drifts(replay, cut)
            checked += found.checked
            wrong += [f"{name}: {one}" for one in found.drifts]
    return checked, wrong


def _calls(history: History) -> Iterator[str]:
    """Calls that the endpoint served, against the holds that there were for them."""
    granted: dict[str, list[float]] = defaultdict(list)
    charged: Counter[str] = Counter()
    for tenant in history.tenants.values():
        for hold in replayed(tenant).holds.values():
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
    """When all is quiet nothing is held, at any level."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        holds = replayed(tenant).holds
        checked += len(holds)
        wrong += [f"{name}: hold {hold} never ended" for hold, one in holds.items() if one.charged is None]
        if tenant.held_microusd or tenant.open_holds:
            wrong.append(f"{name}: {tenant.held_microusd} µ$ in {tenant.open_holds} holds at the end")
        for subject, figures in ((one, them) for cut in tenant.ledger for one, them in cut.subjects.items()):
            if subject and (held := figures.get("held", 0)):
                wrong.append(f"{name}: {held} µ$ held of {subject} at the end")
        for mission in tenant.missions:
            if mission.held_microusd:
                wrong.append(f"{mission.mission_id}: {mission.held_microusd} µ$ held at the end")
    return checked, wrong
