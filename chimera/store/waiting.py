"""What is read to say why a task waits: a bounded look at where it and what it needs stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chimera.core.shelving import most_standing
from chimera.core.task import FINAL, Priority, TaskStatus
from chimera.core.tenant import Quota
from chimera.core.waiting import Line, Refused, Standing
from chimera.errors import NotFound
from chimera.store.brakes import brake_of
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.tasks import mission_of

MOST_LINES = 500
"""Missions with READY tasks that are looked at, of high priority and of others each: the first ones."""
MOST_INPUTS = 200
"""Tasks that it takes results from, of which so many are looked at."""
MOST_WORKERS = 200
"""Live workers whose slots are counted."""
MOST_REVIEWS = 10_000
"""Results in line for the judge, among which a task's own is looked for."""


class Waiting:
    """One tenant's tasks, asked why they wait."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self.keys = TenantKeys(tenant)

    async def standing(
        self,
        task_id: str,
        *,
        quota: Quota,
        places: int,
        window: int,
        tenants: Sequence[str] = (),
        suspended: str | None = None,
    ) -> Standing:
        """Where the task stands, in two round trips.

        Args:
            quota: the tenant's.
            places: workers that the hub may have, over all tenants.
            window: unfinished tasks that a mission may have in Redis.
            tenants: those whose live workers take places: all that have no spoke.
            suspended: why the tenant is suspended; None: it is not.
        Raises:
            NotFound: there is no such task, nor an input that becomes it.
        """
        keys, mission_id = self.keys, mission_of(task_id)
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.hgetall(keys.of("task", task_id))
                pipe.hget(keys.of("spec", task_id), "depends_on")
                pipe.hmget(keys.of("mission", mission_id), *MISSION)
                for queue in (keys.high, keys.normal):
                    pipe.zrange(queue, 0, MOST_LINES - 1, withscores=True)
                pipe.lpos(keys.of("ready", mission_id), task_id)
                pipe.lpos(keys.review, task_id, maxlen=MOST_REVIEWS)
                pipe.llen(keys.review)
                pipe.zcard(keys.leases)
                pipe.zrange(keys.workers, 0, MOST_WORKERS - 1)
                pipe.get(keys.open)
                pipe.hget(keys.of("counts", mission_id), "ACCEPTED")
                pipe.hgetall(keys.brake)
                pipe.hget(keys.spoke, "until")
                found = await pipe.execute()
        (seconds, micros), task, depends_on, mission, high, normal, index, review, *rest = found
        reviews, leases, workers, unfinished, accepted, brake, led_until = rest
        of_mission = dict(zip(MISSION, mission, strict=True))
        if of_mission["status"] is None or not (task or _unplanned(task_id, of_mission)):
            raise NotFound(f"there is no task {task_id!r}")
        inputs = [f"{mission_id}.{name}" for name in (depends_on or "").split()[:MOST_INPUTS]]
        ranked = [(name, int(rank), queue is high) for queue in (high, normal) for name, rank in queue]
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, _, _ in ranked:
                    pipe.llen(keys.of("ready", name))
                    pipe.hget(keys.of("mission", name), "priority")
                for one in inputs:
                    pipe.hget(keys.of("task", one), "status")
                for worker in workers:
                    pipe.hmget(keys.of("worker", worker), "slots", "busy")
                for tenant in tenants:
                    pipe.zcard(TenantKeys(tenant).workers)
                told = iter(await pipe.execute())
        lines = [
            Line(name, Priority(next_), rank, ready) for name, rank, ready, next_ in _lines(ranked, told)
        ]
        statuses = [(one, next(told) or "") for one in inputs]
        slots = [next(told) for _ in workers]
        now_us = int(seconds) * 1_000_000 + int(micros)
        return Standing(
            tenant=keys.tenant,
            task_id=task_id,
            mission_id=mission_id,
            mission_status=of_mission["status"],
            mission_reason=of_mission["reason"] or "",
            priority=Priority(of_mission["priority"]),
            now_us=now_us,
            status=TaskStatus(task["status"]) if task else None,
            reason=task.get("reason", ""),
            index=index,
            lines=lines,
            open_inputs=[(one, status) for one, status in statuses if status not in FINAL],
            not_before_us=int(task.get("not_before", 0)),
            claimed_at_us=int(task.get("claimed_at", 0)),
            judged_at_us=int(task.get("judged_at", 0)),
            refused=_refused(task.get("refused", "")),
            brake=brake_of(brake),
            last_error=task.get("last_error", ""),
            worker=task.get("worker", ""),
            judge=task.get("judge", ""),
            suspended=suspended,
            leases=leases,
            max_agents=quota.max_agents,
            workers=len(workers),
            slots=sum(int(one[0] or 0) for one in slots),
            busy=sum(int(one[1] or 0) for one in slots),
            fleet=sum(told),
            places=places,
            spoke=int(led_until or 0) > now_us if quota.spoke else None,
            reviews=reviews,
            review=review,
            planned=int(of_mission["planned"]),
            inputs=int(of_mission["inputs"]),
            unfinished=int(unfinished or 0),
            max_ready=quota.max_ready,
            unshelved=int(accepted or 0) - int(of_mission["shelved"] or 0),
            max_unshelved=most_standing(window) if of_mission["large"] else 0,
        )


MISSION = ("status", "reason", "priority", "planned", "planned_all", "inputs", "large", "shelved")


def _lines(ranked: Sequence[tuple[str, int, bool]], told: Any) -> list[tuple[str, int, int, str]]:
    """Missions with what was told of them; one that ended in between is left out."""
    read = [(name, rank, next(told), next(told)) for name, rank, _ in ranked]
    return [(name, rank, ready, priority) for name, rank, ready, priority in read if ready and priority]


def _unplanned(task_id: str, mission: Mapping[str, str | None]) -> bool:
    """Whether the id is that of an input of which no task was made yet."""
    name = task_id.partition(".")[2]
    if mission["planned_all"] == "1" or not (name.isascii() and name.isdecimal() and len(name) < 10):
        return False
    return int(mission["planned"] or 0) <= int(name) < int(mission["inputs"] or 0)


def _refused(text: str) -> Refused | None:
    """As reserve_holds.lua wrote it on the task."""
    if not text:
        return None
    kind, *level, limit, settled, held, amount, resets, at = text.split(" ")  # a model's name may have spaces
    figures = (limit, settled, held, amount, resets, at)
    return Refused(kind, " ".join(level), *map(int, figures))
