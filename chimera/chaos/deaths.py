"""Checks deaths: what the dead held is soon back at work, they do nothing more, the living are not blamed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chimera.chaos.faults import Fault
from chimera.chaos.history import History

BOUND_S = 5.0
"""A dead worker's tasks are back at work within this."""
BEFORE_S, AFTER_S = 12.0, 6.0
"""Faults of hub or store so close to a death make its times a tale of both."""
LAST_WORDS_S = 1.0
"""What a process sent before its death is written within this."""
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
    """

    task_id: str
    worker: str
    freed_s: float | None
    claimed_s: float | None
    clean: bool


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
    """Each task of a worker that died alone came back to work within the bound; the dead did nothing more."""
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
