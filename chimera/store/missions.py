"""Missions: submitted, planned, settled, edited, cancelled, swept, read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chimera.core.mission import MissionBase, MissionStatus
from chimera.core.plan import Window
from chimera.core.task import Priority
from chimera.errors import (
    AlreadyExists,
    ChimeraError,
    Conflict,
    Forbidden,
    InvalidTransition,
    NotFound,
    QuotaReached,
)
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.missionrecord import MissionRecord, MissionState, made, record
from chimera.store.room import Room
from chimera.store.scripts import Refusal, Scripts, under_term


class Receipt(NamedTuple):
    """What became of a submit.

    Attributes:
        mission_id: the mission's; of one that the key made before, that one's.
        made: the mission as it was acknowledged; None when it was made before.
    """

    mission_id: str
    made: MissionRecord | None


class Standing(NamedTuple):
    """How a mission stands."""

    status: MissionStatus
    planned_all: bool


class Chores(NamedTuple):
    """Of one tenant, what waits for the hub.

    Attributes:
        revive: missions whose swept tasks must come back.
        sweep: final missions whose open tasks must still end.
        failures: whether tasks failed whose dependants were not told.
    """

    revive: list[str]
    sweep: list[str]
    failures: bool


class MissionStore:
    """One tenant's missions."""

    def __init__(self, redis: Redis, tenant: str, room: Room | None = None) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._room = room or Room(redis)
        self.keys = TenantKeys(tenant)

    async def submit(
        self,
        mission_id: str,
        spec: MissionBase,
        *,
        inputs: int,
        total_tasks: int,
        timeout_s: float,
        max_attempts: int,
        by: str,
        idempotency_key: str = "",
        inputs_digest: str = "",
        max_ready: int = 0,
        slo_s: float = 10.0,
        large: bool = False,
        window: Window | None = None,
        traceparent: str = "",
    ) -> Receipt:
        """Acknowledge a mission. The same idempotency key gives the same one.

        Args:
            slo_s: of high priority, the time to acceptance beyond which a task is a breach.
            large: its accepted tasks are to leave Redis early (`chimera.core.plan.is_large`).
            window: all of its tasks, to be made in the same step. Without it the inputs must already be in
                the blob store, and the orchestrator plans it.
            traceparent: the trace that it is submitted within, accepted (`chimera.core.trace`); or "".

        Raises:
            AlreadyExists: the key came before with another request.
            QueueFull: the store has no room for new work; nothing was acknowledged.
            Forbidden: the tenant is suspended, or was removed while its request was under way.
            QuotaReached: the tenant has as many unfinished tasks as its quota, else `max_ready`, allows.
        """
        await self._room.require()
        body = spec.model_dump_json(exclude={"inputs"})
        fields = {
            "spec": body,
            "goal": spec.goal,
            "context": json.dumps(spec.context),
            "priority": spec.priority.value,
            "timeout_us": round(timeout_s * 1e6),
            "max_attempts": max_attempts,
            "budget": spec.budget_microusd,
            "inputs": inputs,
            "total_tasks": total_tasks,
            "on_task_failure": spec.on_task_failure,
            "min_accepted": spec.min_accepted,
            **({"slo_us": round(slo_s * 1e6)} if spec.priority is Priority.HIGH else {}),
            **({"large": 1} if large else {}),
            **({"traceparent": traceparent} if traceparent else {}),
        }
        code, told, *more = await self._scripts.run(
            "submit_mission",
            [self.keys.root],
            mission_id,
            _digest(idempotency_key) if idempotency_key else "",
            _digest(f"{body} {inputs} {inputs_digest}"),
            by,
            "" if spec.deadline_s is None else round(spec.deadline_s * 1e6),
            max_ready,
            "" if window is None else window.cursor,
            len(fields),
            *(one for pair in fields.items() for one in pair),
            *(() if window is None else _born(window)),
        )
        if code == Refusal.LOST:
            raise AlreadyExists(
                f"this Idempotency-Key made mission {told} from another request: use a new key"
            )
        if code == Refusal.SUSPENDED:
            raise Forbidden(
                f"tenant {self.keys.tenant} is suspended: ask the operator, who resumes it; nothing was "
                "submitted"
            )
        if code == Refusal.FULL:
            raise QuotaReached(
                f"this tenant has {more[0]:,} unfinished tasks, its quota allows {more[1]:,}: let some end, "
                f"or ask the operator for more (`chimera tenant set {self.keys.tenant} --max-ready N`); "
                "nothing was submitted"
            )
        if code == 0:
            return Receipt(str(told), None)
        return Receipt(
            mission_id,
            made(
                mission_id,
                spec,
                window,
                inputs=inputs,
                tasks=total_tasks,
                now_us=int(more[0]),
                traceparent=traceparent,
            ),
        )

    async def plan(
        self, mission_id: str, window: Window, *, cursor: int, term: int, by: str, refill: int = 0
    ) -> bool:
        """Make a window of tasks, once. False: it stands elsewhere, or is over.

        From then on a verdict wakes the hub for more when no more than `refill` are unfinished.

        Raises:
            QueueFull: the store has no room for them; nothing was made.
            OldTerm: a newer leader acts; so with all that a leader does here.
        """
        await self._room.require()
        answer = await self._scripts.run(
            "plan_tasks",
            [self.keys.root],
            mission_id,
            term,
            cursor,
            window.cursor,
            int(window.done),
            by,
            refill,
            *_born(window),
        )
        return bool(under_term(answer) == 1)

    async def settle(self, mission_id: str, *, term: int, by: str) -> MissionStatus | None:
        """Look whether it is over or waits. None: there is no such mission."""
        (standing,) = await self.settle_many([mission_id], term=term, by=by)
        if isinstance(standing, Exception):
            raise standing
        return None if standing is None else standing.status

    async def settle_many(
        self, mission_ids: Sequence[str], *, term: int, by: str
    ) -> list[Standing | ChimeraError | None]:
        """The same of several in one round trip; of one that is damaged, the error."""
        answers = await self._scripts.run_many(
            "settle_mission", [self.keys.root], [(mission_id, term, by) for mission_id in mission_ids]
        )
        return [
            answer
            if isinstance(answer, ChimeraError)
            else None
            if under_term(answer) == Refusal.MISSING
            else Standing(MissionStatus(answer[0]), answer[1] == 1)
            for answer in answers
        ]

    async def sweep(self, mission_id: str, *, term: int, by: str, most: int = 500) -> int:
        """End open tasks of a final mission. Returns how many are still to look at."""
        answer = await self._scripts.run("sweep_mission", [self.keys.root], mission_id, term, most, by)
        return int(under_term(answer)[0])

    async def pass_failures(self, *, term: int, by: str, most: int = 200) -> int:
        """Tell dependants of failed tasks. Returns how many are still to tell."""
        return int(under_term(await self._scripts.run("pass_failures", [self.keys.root], term, most, by)))

    async def cancel(self, mission_id: str, *, by: str, reason: str) -> None:
        """End a mission; idempotent.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is COMPLETED or FAILED.
        """
        code = await self._scripts.run(
            "cancel_mission", [self.keys.root], mission_id, by, reason or "cancelled by its owner"
        )
        if code == Refusal.MISSING:
            raise NotFound(f"there is no mission {mission_id!r}")
        if code == Refusal.LOST:
            raise InvalidTransition(f"mission {mission_id} is over: it cannot be cancelled")

    async def pause(self, mission_id: str, operation: str, *, by: str, reason: str = "") -> None:
        """Hold it: nothing more is claimed or judged. Once for an operation.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is final.
        """
        code = await self._scripts.run(
            "pause_mission", [self.keys.root], mission_id, operation, by, reason or "paused by its owner"
        )
        if code == Refusal.MISSING:
            raise NotFound(f"there is no mission {mission_id!r}")
        if code == Refusal.LOST:
            raise InvalidTransition(f"mission {mission_id} is over: it cannot be paused")

    async def resume(
        self, mission_id: str, operation: str, *, by: str, budget_microusd: int | None = None
    ) -> None:
        """Let a paused mission go on, or one that its budget ended, under a larger one.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is neither; its deadline has passed; or the budget does not grow.
        """
        code = await self._scripts.run(
            "resume_mission",
            [self.keys.root],
            mission_id,
            operation,
            by,
            "" if budget_microusd is None else budget_microusd,
        )
        if code == Refusal.MISSING:
            raise NotFound(f"there is no mission {mission_id!r}")
        if code == Refusal.OVERDUE:
            raise InvalidTransition(f"the deadline of mission {mission_id} has passed: submit it again")
        if code == Refusal.OVER_LIMIT:
            raise InvalidTransition(
                f"mission {mission_id} needs a larger budget than it has to go on: "
                "give one with --budget-usd, or budget_usd over HTTP"
            )
        if code == Refusal.LOST:
            raise InvalidTransition(
                f"mission {mission_id} is neither paused nor ended by its budget: there is nothing to resume"
            )

    async def redrive(self, mission_id: str, task_ids: Sequence[str], operation: str, *, by: str) -> int:
        """Give FAILED tasks a fresh set of attempts; others are left as they are. Returns how many.

        Raises:
            NotFound: there is no such mission.
            InvalidTransition: it was cancelled, or its budget or deadline ended it.
        """
        answer = await self._scripts.run(
            "redrive_tasks", [self.keys.root], mission_id, operation, by, *task_ids
        )
        if answer == Refusal.MISSING:
            raise NotFound(f"there is no mission {mission_id!r}")
        if answer == Refusal.OVERDUE:
            raise InvalidTransition(f"the deadline of mission {mission_id} has passed: submit it again")
        if answer == Refusal.LOST:
            raise InvalidTransition(
                f"mission {mission_id} was cancelled, or ended by its budget or deadline: its tasks cannot "
                "be redriven (`chimera mission resume --budget-usd` revives one that ran out of budget)"
            )
        return int(answer)

    async def revive(self, mission_id: str, *, term: int, by: str, most: int = 500) -> int:
        """Bring back tasks that ended with it. Returns how many are still to look at."""
        answer = await self._scripts.run("revive_tasks", [self.keys.root], mission_id, term, most, by)
        return int(under_term(answer))

    async def edit(
        self,
        mission_id: str,
        operation: str,
        *,
        by: str,
        goal: str | None = None,
        context: dict[str, Any] | None = None,
    ) -> int:
        """Change goal or context. Returns the new state_version.

        Raises:
            NotFound: there is none.
            Conflict: it is final.
        """
        version = await self._scripts.run(
            "edit_mission",
            [self.keys.root],
            mission_id,
            operation,
            by,
            goal or "",
            "" if context is None else json.dumps(context),
        )
        if version == Refusal.MISSING:
            raise NotFound(f"there is no mission {mission_id!r}")
        if version == Refusal.LOST:
            raise Conflict(f"mission {mission_id} is over: it cannot be changed")
        return int(version)

    async def document(self, mission_id: str) -> tuple[MissionBase, MissionState]:
        """What its tasks are done under: the mission as submitted, and the state document as it is now.

        Raises:
            NotFound: there is none of that id.
        """
        names = ("spec", "state_version", "goal", "context", "traceparent")
        with translated():
            spec, version, goal, context, traceparent = await self._redis.hmget(
                self.keys.of("mission", mission_id), *names
            )
            if spec is not None:
                state = MissionState(int(version), goal, json.loads(context), traceparent or "")
                return MissionBase.model_validate_json(spec), state
        raise NotFound(f"there is no mission {mission_id!r}")

    async def get(self, mission_id: str) -> MissionRecord:
        """One mission.

        Raises:
            NotFound: there is none of that id.
        """
        return (await self.get_many([mission_id]))[0]

    async def get_many(self, mission_ids: Sequence[str]) -> list[MissionRecord]:
        """Missions, in the order asked.

        Raises:
            NotFound: one of them does not exist.
        """
        found = await self.find_many(mission_ids)
        if missing := [one for one in mission_ids if one not in found]:
            raise NotFound(f"there is no mission {missing[0]!r}")
        return [found[one] for one in mission_ids]

    async def find_many(self, mission_ids: Sequence[str]) -> dict[str, MissionRecord]:
        """Those of them that are here, by id, in the order asked."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for mission_id in mission_ids:
                    pipe.hgetall(self.keys.of("mission", mission_id))
                    pipe.hgetall(self.keys.of("counts", mission_id))
                    pipe.hgetall(self.keys.of("spend", mission_id))
                    pipe.hgetall(self.keys.of("outcomes", mission_id))
                rows = await pipe.execute()
            return {
                mission_id: record(mission_id, *rows[4 * index : 4 * index + 4])
                for index, mission_id in enumerate(mission_ids)
                if rows[4 * index]
            }

    async def stands(self, mission_id: str) -> bool:
        """Whether it is here, and no part of it is pruned."""
        return mission_id in await self.standing([mission_id])

    async def standing(self, mission_ids: Sequence[str]) -> dict[str, str]:
        """Those of them that are here and no part of them is pruned, by id: their status."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for mission_id in mission_ids:
                    pipe.hmget(self.keys.of("mission", mission_id), "status", "archived_at")
                rows = await pipe.execute()
        return {
            mission_id: status
            for mission_id, (status, archived) in zip(mission_ids, rows, strict=True)
            if status is not None and archived is None
        }

    async def list_ids(self, *, offset: int = 0, most: int = 50) -> list[str]:
        """Mission ids, newest first."""
        with translated():
            return list(await self._redis.zrevrange(self.keys.missions, offset, offset + most - 1))

    async def task_ids(self, mission_id: str, *, offset: int = 0, most: int = 100) -> list[str]:
        """Ids of its tasks in the order planned."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.lrange(self.keys.of("ids", mission_id), offset, offset + most - 1)
                pipe.hmget(self.keys.of("mission", mission_id), "large", "planned")
                listed, (large, planned) = await pipe.execute()
            if large is None:
                return list(listed)
            return [f"{mission_id}.{number}" for number in range(offset, min(offset + most, int(planned)))]

    async def active(self) -> list[str]:
        """Missions that are not final."""
        with translated():
            return list(await self._redis.zrange(self.keys.active, 0, -1))

    async def dirty(self, most: int = 500) -> list[str]:
        """Missions that something happened to, told once; looking again does no harm."""
        with translated():
            return sorted(await self._redis.spop(self.keys.dirty, most))

    async def chores(self) -> Chores:
        """What the hub has to do for the tenant beside planning."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.smembers(self.keys.revive)
                pipe.smembers(self.keys.sweep)
                pipe.llen(self.keys.fallen)
                revive, sweep, fallen = await pipe.execute()
        return Chores(sorted(revive), sorted(sweep), fallen > 0)

    async def unfinished(self) -> int:
        """Tasks of all missions that are BLOCKED, READY, PENDING or in REVIEW: what `max_ready` bounds."""
        with translated():
            return int(await self._redis.get(self.keys.open) or 0)

    async def now_us(self) -> int:
        """The store's clock."""
        with translated():
            seconds, micros = await self._redis.time()
        return int(seconds) * 1_000_000 + int(micros)


def _born(window: Window) -> Iterator[str | int]:
    """Its tasks, as include/plan.lua makes them."""
    for task in window.tasks:
        yield task.name
        yield task.stage
        yield "" if task.input is None else json.dumps(task.input, ensure_ascii=False)
        yield " ".join(task.depends_on)
        yield " ".join(task.needed_by)
        yield task.waits_for
        yield int(task.partial)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
