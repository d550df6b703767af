"""Checks a history against the invariants. Pure: what it says follows from the history alone.

An invariant whose machinery is not built yet says so; it never passes unchecked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from chimera.chaos.faults import Fault
from chimera.chaos.history import History, MissionEnd, TenantEnd
from chimera.chaos.hooks import effects_follow_verdicts
from chimera.core.event import Event

FINAL = {"COMPLETED", "FAILED", "CANCELLED"}
OPEN_TASKS = ("BLOCKED", "READY", "PENDING", "REVIEW", "ESCALATED")
BOUND_S = 5.0
"""A dead worker's tasks are back at work within this."""
NOT_YET = "not checked yet"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one invariant.

    Attributes:
        checked: how many things were looked at; None when it was not checked.
        violations: each in words, with the entries that show it.
    """

    invariant: str
    says: str
    checked: int | None
    violations: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.checked is None:
            return NOT_YET
        return f"{len(self.violations)} violations" if self.violations else "holds"


Check = Callable[[History], tuple[int, list[str]]]


def check(history: History) -> tuple[Finding, ...]:
    """Every invariant, in order."""
    return tuple(
        Finding(name, says, *_run(one, history)) if one else Finding(name, says, None)
        for name, says, one in CHECKS
    )


def _run(one: Check, history: History) -> tuple[int, tuple[str, ...]]:
    checked, violations = one(history)
    return checked, tuple(violations)


def no_mission_lost(history: History) -> tuple[int, list[str]]:
    """Every acknowledged mission is there, final, with each of its tasks accounted for."""
    wrong = []
    ends = {m.mission_id: m for tenant in history.tenants.values() for m in tenant.missions}
    for ack in history.acknowledged:
        end = ends.get(ack["mission_id"])
        if end is None:
            wrong.append(f"{ack['mission_id']} was acknowledged and is gone")
        elif end.status not in FINAL:
            wrong.append(f"{end.mission_id} is {end.status}, tasks {end.counts}")
        elif sum(end.counts.values()) != ack["tasks"] and end.status == "COMPLETED":
            wrong.append(f"{end.mission_id} has {end.counts} of {ack['tasks']} tasks")
        elif any(end.counts.get(status, 0) for status in OPEN_TASKS):
            wrong.append(f"{end.mission_id} is {end.status} with open tasks {end.counts}")
    return len(history.acknowledged), wrong


def one_commit(history: History) -> tuple[int, list[str]]:
    """A task is accepted at most once, and what is accepted is what results gives."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        commits = Counter(e.task_id for e in tenant.events if e.kind in {"task.accepted", "task.approved"})
        checked += len(commits)
        wrong += [f"{task} was accepted {n} times" for task, n in commits.items() if n > 1]
        wrong += [f"{task} has {n} results" for task, n in tenant.results.items() if n != 1]
        wrong += [f"{task} was accepted and has no result" for task in commits.keys() - tenant.results]
        wrong += [f"{name}: {task} has a result nobody accepted" for task in tenant.results.keys() - commits]
    return checked, wrong


def never_over_a_limit(history: History) -> tuple[int, list[str]]:
    """Replays the ledger from the recorder.

    At each grant settled + held stays within the budget; no call was served without a hold; nothing served is
    uncharged; the store's figures are the replayed ones.
    """
    wrong, checked = [], 0
    served = Counter(call["task"] for call in history.calls if call["event"] == "served")
    cost: Counter[str] = Counter()
    for call in history.calls:
        cost[call["task"]] += call.get("cost", 0)
    for tenant in history.tenants.values():
        budgets = {m.mission_id: m for m in tenant.missions}
        ledger = _Replay()
        for event in tenant.events:
            refusal = ledger.take(event, budgets)
            checked += event.kind == "spend.held"
            if refusal:
                wrong.append(refusal)
        for mission in tenant.missions:
            spent = ledger.spent[mission.mission_id]
            if spent != mission.settled_microusd:
                wrong.append(
                    f"{mission.mission_id}: {mission.settled_microusd} settled in the store, {spent} recorded"
                )
        for task in _tasks(tenant):
            if served[task] > ledger.holds_of[task]:
                wrong.append(
                    f"{task}: {served[task]} calls were served and {ledger.holds_of[task]} holds granted"
                )
            if cost[task] > ledger.charged[task]:
                wrong.append(f"{task}: calls for {cost[task]} µ$ were served, {ledger.charged[task]} charged")
    known = {task for tenant in history.tenants.values() for task in _tasks(tenant)}
    wrong += [f"a call for {task!r} was served, which is no task" for task in served.keys() - known]
    return checked, wrong


class _Replay:
    """The ledger of one tenant, from its events."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.holds_of: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        self.open: dict[str, int] = {}
        self._expired: dict[str, int] = {}

    def take(self, event: Event, budgets: Mapping[str, MissionEnd]) -> str:
        """Apply one event; what is wrong with it, or ""."""
        mission, hold = event.mission_id, str(event.details.get("hold", ""))
        match event.kind:
            case "spend.held":
                amount = int(event.details["amount"])
                self.open[hold] = amount
                self.held[mission] += amount
                self.holds_of[event.task_id] += 1
                budget = budgets[mission].budget_microusd if mission in budgets else None
                if budget is not None and self.spent[mission] + self.held[mission] > budget:
                    return (
                        f"{mission}: entry {event.seq} grants {amount}: {self.spent[mission]} settled and "
                        f"{self.held[mission]} held of {budget}"
                    )
            case "spend.settled" | "spend.released" | "spend.expired":
                cost = int(event.details.get("cost", 0))
                if hold in self.open:
                    self.held[mission] -= self.open.pop(hold)
                    self.spent[mission] += cost
                    self.charged[event.task_id] += cost
                    if event.kind == "spend.expired":
                        self._expired[hold] = cost
                elif hold in self._expired:
                    correction = cost - self._expired.pop(hold)
                    self.spent[mission] += correction
                    self.charged[event.task_id] += correction
                else:
                    return f"{mission}: entry {event.seq} ends hold {hold}, which is not open"
        return ""


def every_hold_ends(history: History) -> tuple[int, list[str]]:
    """When all is quiet nothing is held."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        ledger = _Replay()
        for event in tenant.events:
            ledger.take(event, {})
        checked += sum(ledger.holds_of.values())
        wrong += [f"{name}: hold {hold} never ended" for hold in ledger.open]
        if tenant.held_microusd or tenant.open_holds:
            wrong.append(f"{name}: {tenant.held_microusd} µ$ in {tenant.open_holds} holds at the end")
    return checked, wrong


@dataclass(frozen=True, slots=True)
class Recovery:
    """One task of a worker that died.

    Attributes:
        freed_s, claimed_s: seconds from the death until it could be claimed, and was.
        clean: no other fault was near.
    """

    task_id: str
    worker: str
    freed_s: float | None
    claimed_s: float | None
    clean: bool


BEFORE_S, AFTER_S = 12.0, 6.0
"""Faults of hub or store so close to a death make its times a tale of both."""
DEATHS = (Fault.WORKER_KILL, Fault.WORKER_AND_LEADER_KILL)
BESIDE = {
    "missed",
    *(Fault.WORKER_KILL, Fault.WORKER_STOP, Fault.MODEL_HANGS, Fault.MODEL_REFUSES, Fault.SCRIPT_FLUSH),
}


def recoveries(history: History) -> Iterator[Recovery]:
    """What became of each task that a killed worker held."""
    for fault in history.faults:
        if fault["fault"] not in DEATHS or not fault["target"]:
            continue
        at, worker, tenant = fault["at"], fault["target"], history.tenants[fault["tenant"]]
        clean = not any(
            other is not fault
            and other["fault"] not in BESIDE
            and other["at"] - AFTER_S < at < other["until"] + BEFORE_S
            for other in history.faults
        )
        held: dict[str, float | None] = {}
        done: set[str] = set()
        for event in tenant.events:
            when = event.at.timestamp()
            task = event.task_id
            if when <= at:
                if event.kind == "task.claimed" and event.by == worker:
                    held[task] = None
                elif task in held and event.kind.startswith("task."):
                    del held[task]
            elif task in held and task not in done:
                if event.kind in {"task.submitted", "task.erred", "task.timed_out", "task.cancelled"}:
                    done.add(task)  # its last word was on its way when it died
                elif event.kind == "task.rescued":
                    held[task] = when - at
                elif event.kind == "task.claimed":
                    done.add(task)
                    yield Recovery(task, worker, held[task], when - at, clean)
        for task in held.keys() - done:
            yield Recovery(task, worker, held[task], None, clean)


def dead_workers_tasks_are_claimed(history: History) -> tuple[int, list[str]]:
    """Each task of a worker that died alone came back to work within the bound."""
    wrong, checked = [], 0
    ended = {
        event.task_id
        for tenant in history.tenants.values()
        for event in tenant.events
        if event.kind in {"task.failed", "task.cancelled"}
    }
    for one in recoveries(history):
        checked += 1
        if one.freed_s is None and one.task_id not in ended:
            wrong.append(f"{one.task_id} of {one.worker} never came back to work")
        elif one.clean and one.freed_s is not None and one.freed_s > BOUND_S:
            wrong.append(f"{one.task_id} of {one.worker} came back to work after {one.freed_s:.1f} s")
    return checked, wrong


def verdict_first(history: History) -> tuple[int, list[str]]:
    """Whatever was accepted had been handed in, and has an accepting verdict; no action comes before it."""
    wrong, checked = [], 0
    for tenant in history.tenants.values():
        in_review: set[str] = set()
        accepted: set[str] = set()
        for event in tenant.events:
            if event.kind == "task.submitted":
                in_review.add(event.task_id)
            elif event.kind in {"task.accepted", "task.approved"}:
                checked += 1
                if event.task_id not in in_review:
                    wrong.append(f"{event.task_id}: entry {event.seq} accepts what was not handed in")
                if tenant.verdicts.get(event.task_id, 0) < 1:
                    wrong.append(f"{event.task_id} was accepted without a verdict")
                in_review.discard(event.task_id)
                accepted.add(event.task_id)
            elif event.kind.startswith("action."):
                checked += 1
                if event.task_id not in accepted:
                    wrong.append(
                        f"{event.task_id}: entry {event.seq} ({event.kind}) comes before its verdict"
                    )
    return checked, wrong


def no_gap(history: History) -> tuple[int, list[str]]:
    """Sequence numbers go up by one, from 1."""
    wrong, checked = [], 0
    for name, tenant in history.tenants.items():
        expected = 1
        for event in tenant.events:
            checked += 1
            if event.seq != expected:
                wrong.append(f"{name}: entry {event.seq} follows {expected - 1}")
            expected = event.seq + 1
    return checked, wrong


def no_edit(history: History) -> tuple[int, list[str]]:
    """The archive's hash chain holds from its first event to its last."""
    wrong = [f"{name}: {what}" for name, tenant in history.tenants.items() for what in tenant.breaks]
    return sum(tenant.archived for tenant in history.tenants.values()), wrong


CHECKS: tuple[tuple[str, str, Check | None], ...] = (
    ("I1", "no acknowledged mission is lost", no_mission_lost),
    ("I2", "a task has at most one committed result", one_commit),
    ("I3", "no spend over a limit, no call without a hold", never_over_a_limit),
    ("I4", "every hold ends", every_hold_ends),
    ("I5", "tenants' keys are apart (ACL)", None),
    ("I6", "a dead worker's tasks are back at work in time", dead_workers_tasks_are_claimed),
    ("I7", "no commit and no action before the verdict", verdict_first),
    ("I7b", "side effects are received, once a key", effects_follow_verdicts),
    ("I8", "high priority within 10 s at p99", None),
    ("I9", "the recorder has no gap", no_gap),
    ("I9b", "the recorder's archive has no edit (hash chain)", no_edit),
    ("I10", "an idle fleet reaches zero and wakes", None),
)


def _tasks(tenant: TenantEnd) -> set[str]:
    return {event.task_id for event in tenant.events if event.task_id}


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p99 and the largest; nothing for nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
        for name, share in ranks.items()
    }


def times(history: History) -> dict[str, dict[str, float]]:
    """Seconds from a worker's death until its tasks were free, and were claimed.

    Deaths beside other faults stand apart: their times tell of those too.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for one in recoveries(history):
        kind = "alone" if one.clean else "beside other faults"
        if one.freed_s is not None:
            found[f"freed, {kind}"].append(one.freed_s)
        if one.claimed_s is not None:
            found[f"claimed, {kind}"].append(one.claimed_s)
    return {
        name: {"tasks": float(len(values)), **percentiles(values)} for name, values in sorted(found.items())
    }
