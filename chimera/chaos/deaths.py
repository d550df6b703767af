"""Checks deaths: what the dead held is soon back at work, they do nothing more, the living are not blamed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from chimera.chaos.faults import Fault
from chimera.chaos.history import History
from chimera.core.event import Event

BOUND_S = 5.0
"""A dead worker's tasks are back at work within this."""
BEFORE_S, AFTER_S = 12.0, 6.0
"""Faults of hub or store so close to a death make its times a tale of both."""
LAST_WORDS = {"task.submitted", "task.erred", "task.timed_out"}
LAST_WORDS_S = 1.0
"""What a worker says at an attempt's end; sent before its death it is written within this."""
DEATHS = (Fault.WORKER_KILL, Fault.WORKER_AND_LEADER_KILL)
BESIDE = {
    "missed",
    *(Fault.WORKER_KILL, Fault.WORKER_STOP, Fault.MODEL_HANGS, Fault.MODEL_REFUSES, Fault.SCRIPT_FLUSH),
}
"""Faults that touch neither hub nor store."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """One task of a worker that died.

    Attributes:
        freed_s, claimed_s: seconds from the death until it could be claimed, and was.
        clean: no other fault was near.
        suspect: another worker had died with it before, so that it waits for smaller company.
        passed_by: tasks of its mission that were claimed before it, though it was free and its time was up.
    """

    task_id: str
    mission_id: str
    worker: str
    freed_s: float | None = None
    claimed_s: float | None = None
    clean: bool = False
    suspect: bool = False
    passed_by: tuple[str, ...] = ()


def recoveries(history: History) -> Iterator[Recovery]:
    """What became of each task that a killed worker held."""
    for fault in history.faults:
        if fault["fault"] in DEATHS and fault["target"]:
            clean = not any(
                other is not fault
                and other["fault"] not in BESIDE
                and other["at"] - AFTER_S < fault["at"] < other["until"] + BEFORE_S
                for other in history.faults
            )
            events = history.tenants[fault["tenant"]].events
            for one in _of_death(events, fault["at"], fault["target"]):
                yield replace(one, clean=clean)


def _of_death(events: Iterable[Event], at: float, worker: str) -> Iterator[Recovery]:
    events = list(events)
    held = _in_hand((event for event in events if event.at.timestamp() <= at), worker)
    for event in events:
        since_s, task = event.at.timestamp() - at, event.task_id
        if since_s <= 0:
            continue
        if task not in held:
            if event.kind == "task.claimed" and since_s > BOUND_S:
                _passes(held, event)
        elif event.kind in {*LAST_WORDS, "task.cancelled"}:
            del held[task]
        elif event.kind == "task.rescued":
            held[task] = replace(held[task], freed_s=since_s)
        elif event.kind == "task.claimed":
            yield replace(held.pop(task), claimed_s=since_s)
    yield from held.values()


def _in_hand(events: Iterable[Event], worker: str) -> dict[str, Recovery]:
    """What a worker holds after these events."""
    held: dict[str, Recovery] = {}
    deaths: Counter[str] = Counter()
    for event in events:
        task = event.task_id
        if event.kind == "task.rescued" and event.details.get("crash"):
            deaths[task] += 1
        elif event.kind in {*LAST_WORDS, "task.lapsed"}:
            del deaths[task]
        if event.kind == "task.claimed" and event.by == worker:
            held[task] = Recovery(task, event.mission_id, worker, suspect=deaths[task] > 0)
        elif event.kind.startswith("task."):
            held.pop(task, None)
    return held


def _passes(held: dict[str, Recovery], claimed: Event) -> None:
    for task, one in held.items():
        if one.freed_s is not None and one.mission_id == claimed.mission_id:
            held[task] = replace(one, passed_by=(*one.passed_by, claimed.task_id))


def dead_workers_tasks_are_claimed(history: History) -> tuple[int, list[str]]:
    """Each task of a worker that died alone is soon back at work; the dead do nothing more.

    Back at work: free for any worker within the bound, and then given the first slot there is. A suspect
    may have to wait for a slot in smaller company.
    """
    wrong, checked = [], 0
    ended = {
        event.task_id
        for tenant in history.tenants.values()
        for event in tenant.events
        if event.kind in {"task.failed", "task.cancelled"}
    }
    for one in recoveries(history):
        checked += 1
        if one.freed_s is None:
            if one.task_id not in ended:
                wrong.append(f"{one.task_id} of {one.worker} never came back to work")
        elif one.clean and one.freed_s > BOUND_S:
            wrong.append(f"{one.task_id} of {one.worker} came back to work after {one.freed_s:.1f} s")
        elif one.clean and one.passed_by and not one.suspect:
            wrong.append(
                f"{one.task_id} of {one.worker} waited for more than {BOUND_S:g} s, and {one.passed_by[0]} "
                "was claimed before it"
            )
    return checked, [*wrong, *_ghosts(history)]


def _ghosts(history: History) -> Iterator[str]:
    for fault in history.faults:
        if fault["fault"] not in DEATHS or not fault["target"]:
            continue
        worker, over = fault["target"], fault["at"] + LAST_WORDS_S
        if any(_explains(other, worker, fault["at"]) for other in history.faults if other is not fault):
            continue  # a store that stood still reads the last words later
        for event in history.tenants[fault["tenant"]].events:
            if event.by == worker and event.at.timestamp() > over:
                yield f"{worker} is dead, and entry {event.seq} ({event.kind}) is by it"
                break


def nobody_alive_is_blamed(history: History) -> tuple[int, list[str]]:
    """A crash is counted only of a worker that is gone.

    One that goes on working had not died: unless something done to it or to the store explains its silence,
    or the crash was taken back when it was heard of again.
    """
    wrong, checked = [], 0
    for tenant in history.tenants.values():
        last = {event.by: event.at.timestamp() for event in tenant.events}
        taken_back = {
            (event.task_id, event.details["worker"]) for event in tenant.events if event.kind == "task.lapsed"
        }
        for event in tenant.events:
            if event.kind != "task.rescued" or not event.details.get("crash"):
                continue
            checked += 1
            worker, at = event.details["worker"], event.at.timestamp()
            if last.get(worker, 0.0) <= at or (event.task_id, worker) in taken_back:
                continue
            if not any(_explains(fault, worker, at) for fault in history.faults):
                wrong.append(f"{event.task_id}: entry {event.seq} counts a crash of {worker}, which lived on")
    return checked, wrong


def _explains(fault: dict[str, object], worker: str, at: float) -> bool:
    """Whether a fault may have silenced a worker, or hidden its beats, before an instant."""
    near = float(str(fault["at"])) - AFTER_S < at < float(str(fault["until"])) + BEFORE_S
    return near and (fault["fault"] not in BESIDE or fault["target"] == worker)


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

    Deaths beside other faults stand apart: their times tell of those too. So do suspects, which wait for
    smaller company.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for one in recoveries(history):
        kind = "alone" if one.clean else "beside other faults"
        kind += ", suspects" if one.suspect else ""
        if one.freed_s is not None:
            found[f"freed, {kind}"].append(one.freed_s)
        if one.claimed_s is not None:
            found[f"claimed, {kind}"].append(one.claimed_s)
    return {
        name: {"tasks": float(len(values)), **percentiles(values)} for name, values in sorted(found.items())
    }
