"""A census of one tenant's keys: everything that is there, and whether each task is where it belongs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from chimera.core.event import Event, expand
from chimera.core.mission import MissionStatus
from chimera.core.task import FINAL, TaskStatus
from chimera.core.timeline import Timeline
from chimera.store.connection import Redis
from chimera.store.keys import PLAIN, TenantKeys
from tests.store.model import Model, Task

M, S = MissionStatus, TaskStatus


READ: dict[str, Callable[[Any, str], Any]] = {
    "hash": lambda pipe, name: pipe.hgetall(name),
    "list": lambda pipe, name: pipe.lrange(name, 0, -1),
    "set": lambda pipe, name: pipe.smembers(name),
    "zset": lambda pipe, name: pipe.zrange(name, 0, -1, withscores=True),
    "string": lambda pipe, name: pipe.get(name),
}
"""How a key of each type is read whole."""


class Census:
    """All that Redis holds of a tenant at one moment.

    Attributes:
        found: every key's value; of the recorder's log, the newest entry's id.
        entries: what the recorder got since the entry `after`: the events of one script call after another.
    """

    kinds: ClassVar[dict[str, str]] = {}
    """Types of keys seen before, the tenant's root left out: a key's name decides its type."""

    def __init__(self, keys: TenantKeys, found: dict[str, Any], entries: list[list[Event]]) -> None:
        self.keys, self.found, self.entries = keys, found, entries

    @classmethod
    async def take(cls, redis: Redis, keys: TenantKeys, after: str = "0") -> Census:
        """Read every key of the tenant."""
        names = sorted(await redis.keys(f"{keys.root}*"))
        for name in names:
            if (path := name.removeprefix(keys.root)) not in cls.kinds:
                cls.kinds[path] = await redis.type(name)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.xrange(keys.log, min=f"({after}")
            names = [name for name in names if name != keys.log]
            for name in names:
                READ[cls.kinds[name.removeprefix(keys.root)]](pipe, name)
            log, *values = await pipe.execute()
        found = dict(zip(names, values, strict=True))
        return cls(
            keys,
            {**found, keys.log: log[-1][0] if log else after},
            [list(expand(fields)) for _, fields in log],
        )

    def plain(self, name: str) -> Any:
        """A key without an id of its own; empty when it is not there."""
        return self.found.get(getattr(self.keys, name), ())

    def members(self, name: str) -> list[str]:
        """The members of a list, set or sorted set, each as often as it stands there."""
        return [one[0] if isinstance(one, (list, tuple)) else one for one in self.plain(name)]

    def queue(self, name: str) -> list[str]:
        """The members of a queue, or of all missions' queues of that name."""
        if name in PLAIN:
            return self.members(name)
        root = self.keys.of(name, "")
        return [one for key, value in self.found.items() if key.startswith(root) for one in value]

    def of(self, name: str, identity: str) -> Any:
        """A key of one mission or task; empty when it is not there."""
        return self.found.get(self.keys.of(name, identity), {})

    @property
    def last(self) -> str:
        """The recorder's newest entry."""
        return str(self.found.get(self.keys.log, "0"))


def wrong(census: Census, model: Model) -> Iterator[str]:
    """Each thing in the store that is not as the model has it, or not where it belongs."""
    yield from _places(census, model)
    unfinished = sum(task.status in UNFINISHED for task in model.tasks.values())
    if int(census.plain("open") or 0) != unfinished:
        yield f"{census.plain('open')} tasks are counted as unfinished, not {unfinished}"
    for mission_id in model.missions:
        yield from _mission(census, model, mission_id)
    for task in model.tasks.values():
        yield from _task(census, model, task)
    known = {census.keys.of("task", task_id) for task_id in model.tasks}
    root = census.keys.of("task", "")
    yield from (f"{key} is no task" for key in census.found if key.startswith(root) and key not in known)


def untold(census: Census, timelines: Mapping[str, Timeline]) -> Iterator[str]:
    """Each thing in the store that a fold over the missions' events has otherwise."""
    for mission_id, line in timelines.items():
        told, stored = line.last, census.of("mission", mission_id)
        spend = census.of("spend", mission_id)
        pairs: dict[str, tuple[Any, Any]] = {
            "status": (told.mission.status, stored["status"]),
            "reason": (told.mission.reason, stored.get("reason", "")),
            "state_version": (told.mission.state_version, int(stored["state_version"])),
            "budget": (told.mission.budget_microusd, int(stored["budget"])),
            "tasks": (told.mission.planned, len(census.of("ids", mission_id))),
            "held": (told.held_microusd, int(spend.get("held", 0))),
            "settled": (told.settled_microusd, int(spend.get("settled", 0))),
            "counts": (
                told.counts,
                {one: n for one in S if (n := int(census.of("counts", mission_id).get(one, 0)))},
            ),
        }
        for task_id in census.of("ids", mission_id):
            task = census.of("task", task_id)
            pairs[task_id] = (
                told.tasks.get(task_id),
                (task["status"], int(task.get("attempt", 0)), int(task.get("spent", 0))),
            )
        for name, (said, there) in pairs.items():
            if said != there:
                yield f"{mission_id}: {name} is {there}, its events say {said}"


UNFINISHED = {S.BLOCKED, S.READY, S.PENDING, S.REVIEW}
"""Statuses that count against the tenant's `max_ready`."""
RUNNING_OUT = ("q:w:", "h:op:", "h:idem:", "g:hold:")
"""Keys that may name a mission that is gone, and run out by themselves: what a worker or a person last did,
and holds that ended."""


def remains(census: Census, mission_id: str) -> list[str]:
    """What there is of a mission that was pruned, and should not be. A refusal stays until it was seen."""
    recorder = (census.keys.log, census.keys.flags, *(census.keys.root + path for path in RUNNING_OUT))
    return [
        f"{name}: {value}"
        for name, value in census.found.items()
        if not name.startswith(recorder) and re.search(rf"\b{mission_id}\b", f"{name} {value}")
    ]


def _mission(census: Census, model: Model, mission_id: str) -> Iterator[str]:
    mission, stored = model.missions[mission_id], census.of("mission", mission_id)
    believed = {"status": mission.status, "state_version": mission.version, "planned": mission.planned}
    for name, value in believed.items():
        if stored[name] != str(value):
            yield f"{mission_id}: {name} is {stored[name]}, not {value}"
    counts = census.of("counts", mission_id)
    there_are = Counter({str(status): n for status, n in model.counts(mission_id).items()})
    for name in ("crashes", "lapses"):
        there_are[name] = sum(getattr(task, name) for task in model.of(mission_id))
    if off := {name for name in (*TaskStatus, *there_are) if int(counts.get(name, 0)) != there_are[name]}:
        yield f"{mission_id}: {off} of {counts} should be {there_are}"
    if (mission_id in census.members("active")) == mission.final:
        yield f"{mission_id} is {mission.status}, active: {census.members('active')}"
    if (mission_id in census.members("finished")) != mission.final:
        yield f"{mission_id} is {mission.status}, finished: {census.members('finished')}"
    ids = list(census.of("ids", mission_id))
    if sorted(ids) != sorted(task.task_id for task in model.of(mission_id)):
        yield f"{mission_id} lists {ids}"
    queued = Counter(census.members("high") + census.members("normal"))
    if queued[mission_id] and not mission.claimable:
        yield f"{mission_id} is {mission.status} and may be claimed from"
    wants = "high" if mission.spec.priority == "high" else "normal"
    waiting = census.of("ready", mission_id) and mission_id not in census.members("revive")
    if mission.claimable and waiting and mission_id not in census.members(wants):
        yield f"{mission_id} has READY tasks that nobody can claim"
    yield from _comebacks(census, model, mission_id, ids)


def _comebacks(census: Census, model: Model, mission_id: str, ids: list[str]) -> Iterator[str]:
    """Whatever is open in a final mission will be swept; whatever was swept of a live one comes back."""
    mission, stored = model.missions[mission_id], census.of("mission", mission_id)
    if mission.final:
        at = int(stored.get("swept", 0)) if mission_id in census.members("sweep") else len(ids)
        left = [one for one in ids[:at] if model.tasks[one].status not in FINAL]
        if left:
            yield f"{mission_id} is {mission.status} and will not end {left}"
    else:
        at = int(stored.get("revived", 0)) if mission_id in census.members("revive") else len(ids)
        swept = [one for one in ids[:at] if model.tasks[one].status is S.CANCELLED]
        if left := [one for one in swept if not model.tasks[one].upstream]:
            yield f"{mission_id} is {mission.status} and will not bring back {left}"


def _places(census: Census, model: Model) -> Iterator[str]:
    """Each task stands in exactly the queues of its status."""
    stands: dict[str, Counter[str]] = {task_id: Counter() for task_id in model.tasks}
    queues = {name: census.queue(name) for name in set().union(*PLACES.values())}
    for name, members in queues.items():
        for task_id in members:
            if task_id in stands:
                stands[task_id][name] += 1
            else:
                yield f"{name} holds {task_id}, which is no task"
    for task_id, found in stands.items():
        status = model.tasks[task_id].status
        if set(found) - PLACES[status] or found.total() != bool(PLACES[status]):
            yield f"{task_id} is {status} and stands in {dict(found)}"


PLACES: dict[TaskStatus, set[str]] = {
    **{status: set[str]() for status in TaskStatus},
    S.READY: {"ready", "later"},
    S.PENDING: {"leases"},
    S.REVIEW: {"review", "judging", "parked"},
    S.ESCALATED: {"inbox"},
}
"""Where a task of a status stands: in exactly one of these, once."""


def _task(census: Census, model: Model, task: Task) -> Iterator[str]:
    stored = census.of("task", task.task_id)
    if stored.get("status") != task.status:
        yield f"{task.task_id} is {stored.get('status')}; its entries make it {task.status}"
    for name, value in (("used", task.used), ("crashes", task.crashes), ("lapses", task.lapses)):
        if int(stored.get(name, 0)) != value:
            yield f"{task.task_id}: {stored.get(name)} {name}, not {value}"
    yield from _commit(census, task)
    yield from _fallen(census, model, task)
    if task.status in FINAL and not int(stored.get("finished_at", 0)):
        yield f"{task.task_id} is {task.status} and does not say since when"


def _commit(census: Census, task: Task) -> Iterator[str]:
    commit, verdicts = census.of("commit", task.task_id), census.of("verdicts", task.task_id)
    if bool(commit) != (task.status is S.ACCEPTED):
        yield f"{task.task_id} is {task.status}, its commit {commit}"
    elif commit and commit["result"] != task.result:
        yield f"{task.task_id}: {commit['result']} is committed, {task.result} was handed in"
    elif commit and (not verdicts or json.loads(verdicts[-1])["decision"] != "accept"):
        yield f"{task.task_id} is committed on {verdicts}"


def _fallen(census: Census, model: Model, task: Task) -> Iterator[str]:
    """Who waits, waits for something; unless a failure is yet to be told, or the mission to come back."""
    mission = model.missions[task.mission_id]
    if census.members("fallen") or mission.final or mission.mission_id in census.members("revive"):
        return
    if task.status is S.BLOCKED and (model.doomed(task) or not model.waits(task)):
        yield f"{task.task_id} is BLOCKED and waits for nothing"
    counted = int(census.of("task", task.task_id)["waits_for"])
    if task.status is S.BLOCKED and counted != model.waits(task):
        yield f"{task.task_id} waits for {counted}, not {model.waits(task)}"
    if task.upstream and not model.doomed(task):
        yield f"{task.task_id} is cancelled, and could still run"
