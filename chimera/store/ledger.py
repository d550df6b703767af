"""The ledger: holds reserved, settled, expired; limits; what was spent. The governor's alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chimera.core.money import Window
from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.requests import MAX_FIGURE
from chimera.store.scripts import Refusal, Scripts, lease_lost, under_term


class Reservation(NamedTuple):
    """The worst case of one paid call, asked for under a task's lease or a judge's review."""

    hold_id: str
    task_id: str
    token: int
    amount_microusd: int
    ttl_s: float


class Settlement(NamedTuple):
    """What a call really cost; `cost_microusd` None: it was never sent.

    Whoever made the call says so, and may be wrong: what can be no cost (negative, not whole, more than
    `MAX_FIGURE`) is charged as the hold's whole amount.

    Its reply is kept for a re-run in the same step, under `round` of the hold's task and `call` (none: it is
    not kept). An empty `reply` stands for one that could not be used.
    """

    hold_id: str
    cost_microusd: int | float | None
    charge_json: str = ""
    round: int = 0
    call: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """A tenant's money: limits and what is settled in each window; what is held."""

    limits: dict[Window, int]
    settled: dict[str, int]
    """By window id: ``lifetime``, ``day:2026-11-22`` …"""
    held: int


class Ledger:
    """One tenant's ledger."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def reserve(
        self, reservations: Sequence[Reservation], *, term: int, by: str
    ) -> list[BudgetExceeded | LeaseLost | None]:
        """Reserve. Per reservation: None when granted, else why not. Idempotent by hold id.

        Raises:
            OldTerm: a newer governor acts.
        """
        asked: list[str | int] = []
        for hold, task, token, amount, ttl_s in reservations:
            asked += (hold, task, token, amount, round(ttl_s * 1e6))
        answers = await self._scripts.run("reserve_holds", [self.keys.root], term, by, *asked)
        return [_refusal(one, answer) for one, answer in zip(reservations, under_term(answers), strict=True)]

    async def settle(
        self, settlements: Sequence[Settlement], *, term: int, by: str, keep_s: int, keep_bytes: int
    ) -> list[Refusal | None]:
        """End holds. Idempotent.

        Returns, per settlement: None when it is settled (also before), `Refusal.MISSING` when there is no
        such hold, `Refusal.NO_COST` when it was charged whole because its cost can be none.

        Args:
            keep_s: replies are kept this long.
            keep_bytes: of one round of a task; a reply beyond it is not kept.
        Raises:
            OldTerm: a newer governor acts.
        """
        asked: list[str | int] = []
        for hold, cost, charge, round_, call, reply in settlements:
            asked += (hold, "" if cost is None else str(cost), charge, round_, call, reply)
        answers = await self._scripts.run(
            "settle_holds", [self.keys.root], term, by, keep_s, keep_bytes, int(MAX_FIGURE), *asked
        )
        return [None if answer >= 0 else Refusal(answer) for answer in under_term(answers)]

    async def expire(self, *, term: int, by: str, most: int = 200) -> int:
        """End holds that ran out: charged at their worst case if sent. Returns how many.

        Raises:
            OldTerm: a newer governor acts.
        """
        return int(under_term(await self._scripts.run("expire_holds", [self.keys.root], term, by, most)))

    async def kept(self, calls: Sequence[tuple[str, int, str]]) -> list[str | None]:
        """The replies kept of calls, each ``(task id, round, call)``; None for one that is not."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for task_id, round_, call in calls:
                    pipe.hget(self.keys.of("kept", f"{task_id}/{round_}"), call)
                return list(await pipe.execute())

    async def forget(self, rounds: Sequence[tuple[str, int]], *, term: int) -> None:
        """Remove what is kept of rounds that are over, each ``(task id, round)``. Idempotent.

        Raises:
            OldTerm: a newer governor acts.
        """
        answer = await self._scripts.run(
            "forget_replies", [self.keys.root], term, *(field for one in rounds for field in one)
        )
        under_term(answer)

    async def set_limits(self, limits: Mapping[Window, int], *, by: str) -> None:
        """Make exactly these the tenant's limits (µ$)."""
        await self._scripts.run(
            "set_limits",
            [self.keys.root],
            by,
            *(field for window, limit in limits.items() for field in (window.value, limit)),
        )

    async def balance(self) -> Balance:
        """Limits, settled and held."""
        with translated():
            limits = await self._redis.hgetall(self.keys.limits)
            ledger = await self._redis.hgetall(self.keys.ledger)
            return Balance(
                limits={Window(window): int(limit) for window, limit in limits.items()},
                settled={
                    name.removeprefix("settled:"): int(value)
                    for name, value in ledger.items()
                    if name.startswith("settled:")
                },
                held=int(ledger.get("held", 0)),
            )


def _refusal(one: Reservation, answer: Sequence[str | int]) -> BudgetExceeded | LeaseLost | None:
    if answer[0] == Refusal.OVER_LIMIT:
        return BudgetExceeded(
            RefusalKind(str(answer[1])),
            str(answer[2]),
            int(answer[3]),
            int(answer[4]),
            int(answer[5]),
            one.amount_microusd,
            float(answer[6]),
        )
    if answer[0] == Refusal.LOST:
        return lease_lost(one.task_id, one.token, answer)
    return None
