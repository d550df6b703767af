"""How a step is made: a call to the store, what the recorder says of it, and a census of every key."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from chimera.core.lease import Claim, Review
from chimera.core.task import TaskStatus
from chimera.core.timeline import Moment, Timeline
from chimera.core.verdict import Verdict
from chimera.errors import ChimeraError
from chimera.runtime.base import Base, TenantStores
from chimera.store.connection import SyncRedis
from chimera.store.elections import Election
from chimera.store.scripts import OldTerm
from tests.store import drive
from tests.store.census import Census, untold, wrong
from tests.store.model import Mission, Model, Task

S = TaskStatus
T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]
Refused: TypeAlias = ChimeraError | OldTerm

LEASE_S = 3_600.0
"""Of tasks, reviews and workers: time passes only when a rule says so, however slow the machine is."""
SLOTS = 4
"""Of each worker."""
TIMED = ("leases", "later", "judging", "workers")
"""Queues whose members come due."""


@dataclass
class World:
    """What all examples share: an event loop, a server, and numbers that never repeat."""

    runner: asyncio.Runner
    base: Base
    sync: SyncRedis
    numbers: itertools.count[int]


class Stage(RuleBasedStateMachine):
    """One tenant: what the store holds of it, what the model believes, and what was ever handed out."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.base = world, world.base
        self.tenant = f"machine{next(world.numbers)}"
        self.stores: TenantStores = world.base.of(self.tenant)
        self.keys = self.stores.missions.keys
        self.model = Model()
        self.timelines: dict[str, Timeline] = {}
        self.moments: list[tuple[str, Moment]] = []
        """What was compared with the store, in the order it was."""
        self.census = Census(self.keys, {}, [])
        self.claims: list[tuple[str, Claim]] = []
        self.reviews: list[tuple[str, Review]] = []
        self.operations: list[tuple[Call[Any], str]] = []
        self.election = Election(world.base.redis, f"role of {self.tenant}")
        self.leader, self.term = "", 0
        self.sound = True
        """The last step was found right: nothing is to be looked at further after a failure."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await it."""
        return self.world.runner.run(coroutine)

    def number(self) -> str:
        """A new one."""
        return str(next(self.world.numbers))

    def do(self, call: Call[T], *, again: bool = False) -> T | Refused:
        """Make a call, and learn what it did from the recorder; made again, it must do no more."""
        self.sound = False
        answer = self.run(outcome(call()))
        self.look()
        if again:
            assert repr(self.idle(call)) == repr(answer)
        return answer

    def idle(self, call: Call[T]) -> T | Refused:
        """Make a call that must change nothing at all."""
        self.sound = False
        answer = self.run(outcome(call()))
        before = self.census.found
        after = self.run(Census.take(self.base.redis, self.keys, self.census.last)).found
        names = before.keys() | after.keys()
        changed = {
            name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
        }
        assert not changed, f"it answered {answer!r} and changed {changed}"
        return answer

    def operate(self, call: Call[T], *, again: bool = False) -> T | Refused:
        """A call under an operation id: whenever it comes again, it answers the same and does nothing."""
        answer = self.do(call, again=again)
        self.operations.append((call, repr(answer)))
        return answer

    def look(self) -> None:
        """Take a census; let the model hear what was recorded since the last one."""
        self.census = self.run(Census.take(self.base.redis, self.keys, self.census.last))
        for entry in self.census.entries:
            self.model.replay(entry)
            for event in entry:
                if event.mission_id:
                    self.timelines.setdefault(event.mission_id, Timeline()).take(event)
        self.hold_the_clock()

    def hold_the_clock(self) -> None:
        """What would come due within a second does so when a rule says it, as everything else."""
        soon = (time.time() + LEASE_S / 2) * 1e6
        for name in ("later", "judging"):
            due = {one: at + LEASE_S * 1e6 for one, at in self.census.plain(name) if 1 < at < soon}
            if due:
                self.run(self.base.redis.zadd(getattr(self.keys, name), due))
                self.census = self.run(Census.take(self.base.redis, self.keys, self.census.last))

    @invariant()
    def everything_is_where_it_belongs(self) -> None:
        """After each step."""
        self.sound = False
        found = [*wrong(self.census, self.model), *untold(self.census, self.timelines)]
        assert not found, "\n".join(found)
        self.moments += [(mission_id, line.last) for mission_id, line in self.timelines.items()]
        self.sound = True

    # Who and what there is.

    def mission(self, pick: int) -> Mission:
        """One of the missions."""
        return list(self.model.missions.values())[pick % len(self.model.missions)]

    def members(self, name: str) -> list[str]:
        """Of a queue, in an order that is the same in every run."""
        return sorted(self.census.members(name))

    def tasks(self, *statuses: TaskStatus) -> list[Task]:
        """Tasks of these statuses."""
        return [task for task in self.model.tasks.values() if task.status in statuses]

    def current(self) -> list[tuple[str, Claim]]:
        """Leases that still hold."""
        return [(worker, one) for worker, one in self.claims if self.still_holds(one)]

    def still_holds(self, one: Claim) -> bool:
        """Whether it is the task's current lease."""
        task = self.model.tasks[one.task_id]
        return task.status is S.PENDING and task.token == one.token

    def judging(self) -> list[tuple[str, Review]]:
        """Reviews that still hold."""
        return [(judge, one) for judge, one in self.reviews if self.still_judges(one)]

    def still_judges(self, one: Review) -> bool:
        """Whether it is the task's current review."""
        task = self.model.tasks[one.task_id]
        held = one.task_id in self.census.members("judging")
        return task.status is S.REVIEW and task.judge_token == one.token and held


async def outcome(call: Coroutine[Any, Any, T]) -> T | Refused:
    """What a call answers, or how it refuses."""
    try:
        return await call
    except (ChimeraError, OldTerm) as exc:
        return exc


def said(decision: str) -> Verdict:
    """A verdict."""
    return drive.verdict(decision, {"accept": 1.0, "reject": 0.1, "escalate": 0.8}[decision], "more")
