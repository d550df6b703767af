"""Checks a history against the invariants. Pure: what it says follows from the history alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from chimera.chaos.deaths import dead_workers_tasks_are_claimed, nobody_alive_is_blamed
from chimera.chaos.history import History, MissionEnd
from chimera.chaos.hooks import effects_follow_verdicts
from chimera.chaos.lives import steps_are_legal
from chimera.chaos.rest import idle_reaches_zero_and_wakes
from chimera.chaos.spend import every_hold_ends, ledger_is_the_recorders, never_over_a_limit
from chimera.chaos.tenancy import tenants_are_apart
from chimera.chaos.urgent import high_priority_is_in_time
from chimera.core.mission import MISSION_FINAL, MissionStatus
from chimera.core.task import OPEN

NOTHING = "nothing to check"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one invariant.

    Attributes:
        checked: how many things were looked at.
        violations: each in words, with the entries that show it.
    """

    invariant: str
    says: str
    checked: int
    violations: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.violations:
            return f"{len(self.violations)} violations"
        return "holds" if self.checked else NOTHING


Check = Callable[[History], tuple[int, list[str]]]


def check(history: History) -> tuple[Finding, ...]:
    """Every invariant, in order."""
    return tuple(Finding(name, says, *_run(one, history)) for name, says, one in CHECKS)


def _run(one: Check, history: History) -> tuple[int, tuple[str, ...]]:
    checked, violations = one(history)
    return checked, tuple(violations)


def no_mission_lost(history: History) -> tuple[int, list[str]]:
    """Every mission acknowledged or recorded is there, with its tenant, final, with each of its tasks."""
    wrong, checked = [], 0
    told: dict[tuple[str, str], int] = {}
    for ack in history.acknowledged:
        name = (ack["tenant"], ack["mission_id"])
        if name in told:
            wrong.append(f"{name[1]} was acknowledged twice: one of two missions is not there")
        told[name] = ack["tasks"]
    for tenant, end in history.tenants.items():
        missions = {mission.mission_id: mission for mission in end.missions}
        recorded = {event.mission_id for event in end.events if event.mission_id}
        acknowledged = {mission_id for of, mission_id in told if of == tenant}
        checked += len(missions.keys() | recorded | acknowledged)
        wrong += [f"{one} was acknowledged and is gone" for one in sorted(acknowledged - missions.keys())]
        wrong += [
            f"{one} has entries and is gone" for one in sorted(recorded - acknowledged - missions.keys())
        ]
        for mission in end.missions:
            wrong += _unfinished(mission, told.get((tenant, mission.mission_id)))
    strangers = sorted(one for tenant, one in told if tenant not in history.tenants)
    wrong += [f"{one} was acknowledged to a tenant that is gone" for one in strangers]
    return checked, wrong


def _unfinished(mission: MissionEnd, acknowledged: int | None) -> list[str]:
    """What is missing of a mission; `acknowledged` tasks, where its owner was told of it."""
    name, tasks = mission.mission_id, sum(mission.counts.values())
    if mission.status not in MISSION_FINAL:
        return [f"{name} is {mission.status}, tasks {mission.counts}"]
    if any(mission.counts.get(status, 0) for status in OPEN):
        return [f"{name} is {mission.status} with open tasks {mission.counts}"]
    if acknowledged is not None and mission.total_tasks != acknowledged:
        return [f"{name} is of {mission.total_tasks} tasks, {acknowledged} were acknowledged"]
    if tasks > mission.total_tasks or (
        mission.status == MissionStatus.COMPLETED and tasks < mission.total_tasks
    ):
        return [f"{name} is {mission.status} and has {mission.counts} of {mission.total_tasks} tasks"]
    return []


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


def verdict_first(history: History) -> tuple[int, list[str]]:
    """Whatever was accepted had been handed in since the last edit, by another, and has an accepting verdict;
    no action comes before it."""
    wrong, checked = [], 0
    for tenant in history.tenants.values():
        author: dict[str, str] = {}
        accepted: set[str] = set()
        for event in tenant.events:
            if event.kind == "task.submitted":
                author[event.task_id] = event.by
            elif event.kind == "mission.edited":
                author = {
                    task: by for task, by in author.items() if not task.startswith(f"{event.mission_id}.")
                }
            elif event.kind in {"task.accepted", "task.approved"}:
                checked += 1
                said = f"{event.task_id}: entry {event.seq} accepts"
                if event.task_id not in author:
                    wrong.append(f"{said} what was not handed in, or not since its mission was edited")
                elif author.pop(event.task_id) == event.by:
                    wrong.append(f"{said} what {event.by} itself made")
                if tenant.verdicts.get(event.task_id, 0) < 1:
                    wrong.append(f"{event.task_id} was accepted without a verdict")
                accepted.add(event.task_id)
            elif event.kind.startswith("action.") and event.kind != "action.proposed":
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


CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("I1", "no acknowledged mission is lost", no_mission_lost),
    ("I2", "a task has at most one committed result", one_commit),
    ("I2b", "tasks and missions move along the tables, each by who may", steps_are_legal),
    ("I3", "no spend over a limit, no call without a hold", never_over_a_limit),
    ("I3b", "the ledger is what its recorder says (spend audit)", ledger_is_the_recorders),
    ("I4", "every hold ends", every_hold_ends),
    ("I5", "no tenant reads or writes another's keys", tenants_are_apart),
    ("I6", "a dead worker's tasks are back at work in time", dead_workers_tasks_are_claimed),
    ("I6b", "no crash is counted of a worker that lives", nobody_alive_is_blamed),
    ("I7", "no commit and no action before the verdict", verdict_first),
    ("I7b", "side effects are received, once a key", effects_follow_verdicts),
    ("I8", "high priority within 10 s at p99", high_priority_is_in_time),
    ("I9", "the recorder has no gap", no_gap),
    ("I9b", "the recorder's archive has no edit (hash chain)", no_edit),
    ("I10", "an idle fleet reaches zero and wakes", idle_reaches_zero_and_wakes),
)
