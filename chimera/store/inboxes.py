"""The inboxes of many tenants: which tasks wait for a human, since when, and in a few words what each is.

For lists that are looked at again and again: neither inputs nor results are read, only how large they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chimera.core.mission import MissionBase
from chimera.core.verdict import Verdict
from chimera.errors import CorruptRecord, NotFound
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.tasks import mission_of

MOST_SEARCHED = 10_000
"""Of one tenant's inbox, where the tasks of one mission are looked for."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits for a human; `since_us` by the store's clock."""

    tenant: str
    task_id: str
    since_us: int

    @property
    def mission_id(self) -> str:
        """Its mission."""
        return mission_of(self.task_id)


@dataclass(frozen=True, slots=True)
class Slip:
    """What is told of a task that waits.

    Attributes:
        agent, goal: of its mission, as they are now; "" where that is gone.
        attempt: the one that is judged.
        reason: why it waits: judge, judge_error, state_churn.
        verdict: the judge's last one; None where there is none.
        result_bytes: of its result; 0: there is none.
        actions: whether its result proposes actions.
    """

    waiting: Waiting
    agent: str
    goal: str
    attempt: int
    reason: str
    verdict: Verdict | None
    result_bytes: int
    actions: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How one task stands.

    Attributes:
        since_us: since when it waits for a human; 0: it does not.
        last: the last verdict on it.
    """

    status: str
    since_us: int
    last: Verdict | None


async def waiting(
    redis: Redis, tenants: Sequence[str], *, most: int, mission_id: str = ""
) -> tuple[list[Waiting], int]:
    """Those that wait longest, over all tenants, and how many wait at all; one round trip.

    Args:
        mission_id: only this mission's, among the `MOST_SEARCHED` that wait longest.
    """
    reach = MOST_SEARCHED if mission_id else most
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                inbox = TenantKeys(tenant).inbox
                pipe.zrange(inbox, 0, reach - 1, withscores=True)
                pipe.zcard(inbox)
            rows = await pipe.execute()
    found = [
        Waiting(tenant, task_id, int(since))
        for tenant, listed in zip(tenants, rows[::2], strict=True)
        for task_id, since in listed
        if mission_id in {"", mission_of(task_id)}
    ]
    found.sort(key=lambda one: (one.since_us, one.tenant, one.task_id))
    return found[:most], len(found) if mission_id else sum(rows[1::2])


async def slips(redis: Redis, tasks: Sequence[Waiting]) -> list[Slip | CorruptRecord | None]:
    """What is told of each, in the order asked, in two round trips.

    None: it waits no more; of one that cannot be read, the error.
    """
    missions = list(dict.fromkeys((one.tenant, one.mission_id) for one in tasks))
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for one in tasks:
                keys = TenantKeys(one.tenant)
                pipe.hmget(keys.of("task", one.task_id), "status", "attempt", "reason", "actions")
                pipe.hstrlen(keys.of("task", one.task_id), "result")
                pipe.hget(keys.of("spec", one.task_id), "stage")
                pipe.lrange(keys.of("verdicts", one.task_id), -1, -1)
            rows = await pipe.execute()
        async with redis.pipeline(transaction=False) as pipe:
            for tenant, mission_id in missions:
                pipe.hmget(TenantKeys(tenant).of("mission", mission_id), "goal", "spec")
            known = dict(zip(missions, await pipe.execute(), strict=True))
    return [
        _slip(one, rows[4 * index : 4 * index + 4], known[one.tenant, one.mission_id])
        for index, one in enumerate(tasks)
    ]


async def topics_of(redis: Redis, tasks: Sequence[Waiting]) -> list[tuple[str, ...]]:
    """The sensitive topics that each one's last verdict found; none of one that cannot be read."""
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for one in tasks:
                pipe.lrange(TenantKeys(one.tenant).of("verdicts", one.task_id), -1, -1)
            rows = await pipe.execute()
    return [_topics(verdicts) for verdicts in rows]


async def standing(redis: Redis, tenant: str, task_id: str) -> Standing:
    """How one task stands, in one round trip.

    Raises:
        NotFound: there is none of that id in Redis.
    """
    keys = TenantKeys(tenant)
    with translated():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hget(keys.of("task", task_id), "status")
            pipe.zscore(keys.inbox, task_id)
            pipe.lrange(keys.of("verdicts", task_id), -1, -1)
            status, since, verdicts = await pipe.execute()
        last = Verdict.model_validate_json(verdicts[0]) if verdicts else None
    if status is None:
        raise NotFound(f"there is no task {task_id!r}")
    return Standing(status, int(since or 0), last)


def _slip(one: Waiting, rows: Sequence[Any], mission: Sequence[Any]) -> Slip | CorruptRecord | None:
    (status, attempt, reason, actions), result_bytes, stage, verdicts = rows
    if status != "ESCALATED":
        return None
    goal, spec = mission
    try:
        with translated():
            made = MissionBase.model_validate_json(spec) if spec else None
            own = made.stages.get(stage or "") if made else None
            return Slip(
                waiting=one,
                agent=own.agent if own else made.agent if made else "",
                goal=goal or "",
                attempt=int(attempt or 0),
                reason=reason or "",
                verdict=Verdict.model_validate_json(verdicts[0]) if verdicts else None,
                result_bytes=int(result_bytes),
                actions=actions not in {None, "", "[]"},
            )
    except CorruptRecord as exc:
        return exc


def _topics(verdicts: Sequence[str]) -> tuple[str, ...]:
    try:
        return Verdict.model_validate_json(verdicts[0]).topics if verdicts else ()
    except ValueError:  # whoever lists it says so
        return ()
