"""The outbox: actions of accepted results, taken by couriers under leases, reported, retried, read.

Nothing here puts one in: that is done by the step that accepts its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chimera.core.action import Action, ActionStatus, Outcome, action_id, parse_action
from chimera.errors import NotFound
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts
from chimera.telemetry.redaction import redact


@dataclass(frozen=True, slots=True)
class Errand:
    """An action a courier holds under a lease."""

    action_id: str
    token: int
    lease_s: float
    """What was left of the lease when the store answered."""
    tries: int
    """Made before this one."""
    action_json: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a try."""

    action_id: str
    token: int
    outcome: Outcome
    answer: str
    delay_s: float = 0.0
    """Before it is tried again."""


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """An accepted action as stored."""

    action_id: str
    status: ActionStatus
    action: Action
    tries: int
    """Answered or failed, since it was queued or last retried."""
    lapses: int
    """Leases of couriers that fell silent: each of these may have sent it too."""
    answer: str
    """What came of the last try, in words."""
    courier: str
    """Who holds it now."""
    queued_at_us: int
    due_at_us: int
    """From when it may be tried, or its present lease's end; 0 when it is final."""
    finished_at_us: int

    @property
    def task_id(self) -> str:
        """The task whose result proposed it."""
        return self.action_id.rpartition("/")[0]

    @property
    def index(self) -> int:
        """Its place among that result's actions, from 0."""
        return int(self.action_id.rpartition("/")[2])


class ActionStore:
    """One tenant's actions."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def claim(
        self, courier: str, claim_id: str, *, lease_s: float, most: int, grace_s: float = 0
    ) -> list[Errand]:
        """Take actions that are due. The same claim id again gives the same.

        Args:
            grace_s: after the store was out of reach, no lease counts as run out for this long.
        """
        now, errands = await self._scripts.run(
            "claim_actions",
            [self.keys.root],
            courier,
            claim_id,
            round(lease_s * 1e6),
            most,
            round(grace_s * 1e6),
        )
        with translated():
            return [
                Errand(
                    action_id=errand[0],
                    token=int(errand[1]),
                    lease_s=(int(errand[2]) - int(now)) / 1e6,
                    tries=int(errand[3]),
                    action_json=errand[4],
                )
                for errand in errands
            ]

    async def report(self, courier: str, reports: Sequence[Report]) -> list[bool]:
        """Say what came of tries. Per report: False when the lease is lost. Idempotent by token."""
        answers = await self._scripts.run(
            "report_actions",
            [self.keys.root],
            courier,
            *(
                field
                for one in reports
                for field in (
                    one.action_id,
                    one.token,
                    one.outcome.value,
                    round(one.delay_s * 1e6),
                    redact(one.answer),
                )
            ),
        )
        return [answer == 1 for answer in answers]

    async def retry(self, mission_id: str, action_ids: Sequence[str], operation: str, *, by: str) -> int:
        """Give FAILED actions a fresh set of tries; others are left as they are. Returns how many.

        Raises:
            NotFound: there is no such mission.
        """
        answer = int(
            await self._scripts.run("retry_actions", [self.keys.root], mission_id, operation, by, *action_ids)
        )
        if answer == Refusal.MISSING:
            raise NotFound(f"there is no mission {mission_id!r}")
        return answer

    async def ids(self, mission_id: str, *, offset: int = 0, most: int = 100) -> list[str]:
        """Ids of a mission's actions in the order they were accepted."""
        with translated():
            return list(
                await self._redis.lrange(self.keys.of("actions", mission_id), offset, offset + most - 1)
            )

    async def of_task(self, task_id: str, count: int) -> list[ActionRecord]:
        """The first `count` actions of a task's accepted result."""
        return await self.get_many([action_id(task_id, index) for index in range(count)])

    async def get_many(self, action_ids: Sequence[str]) -> list[ActionRecord]:
        """Actions, in the order asked.

        Raises:
            NotFound: one of them does not exist.
        """
        if not action_ids:
            return []
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for one in action_ids:
                    pipe.hgetall(self.keys.of("action", one))
                    pipe.zscore(self.keys.outbox, one)
                rows = await pipe.execute()
            return [
                _record(one, rows[2 * at], int(rows[2 * at + 1] or 0)) for at, one in enumerate(action_ids)
            ]


def _record(identity: str, action: dict[str, str], due_at_us: int) -> ActionRecord:
    if not action:
        raise NotFound(f"there is no action {identity!r}")
    return ActionRecord(
        action_id=identity,
        status=ActionStatus(action["status"]),
        action=parse_action(action["action"]),
        tries=int(action["tries"]),
        lapses=int(action.get("lapses", 0)),
        answer=action.get("answer", ""),
        courier=action.get("courier", ""),
        queued_at_us=int(action["queued_at"]),
        due_at_us=due_at_us,
        finished_at_us=int(action.get("finished_at", 0)),
    )
