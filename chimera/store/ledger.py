"""The ledger: holds reserved, settled, expired; limits; what was spent. The governor's alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from chimera.core.replay import LONGEST_HOLD_S
from chimera.errors import BudgetExceeded, Conflict, InvalidRequest, LeaseLost, RefusalKind
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.requests import MAX_FIGURE
from chimera.store.scripts import Refusal, Scripts, lease_lost, under_term

MOST_LIMITS = 1_000
"""Of one tenant, those of its agents and models included."""
MOST_SUBJECTS = 2_000
"""Agents and models of one tenant that are counted one by one (`reserve_holds.lua`)."""


class Reservation(NamedTuple):
    """The worst case of one paid call.

    Attributes:
        task_id: who pays: a task, under the token of its worker's lease or its judge's review; a mission that
            is not final, or "" for the tenant alone, whatever the token.
        ttl_s: the hold's life; no more than `LONGEST_HOLD_S`.
        agent, model: whose limits bind it too; "": none.
    """

    hold_id: str
    task_id: str
    token: int
    amount_microusd: int
    ttl_s: float
    agent: str = ""
    model: str = ""


class Short(NamedTuple):
    """A reservation that fits the tenant's limits and waits for what the fleet's ledger allows.

    Attributes:
        amount_microusd: what would be held for it.
        beyond_microusd: what is held with it, beyond what the tenant drew.
    """

    amount_microusd: int
    beyond_microusd: int


class Settlement(NamedTuple):
    """What a call really cost; `cost_microusd` None: it was never sent.

    Whoever made the call says so, and may be wrong: what can be no cost (negative, not whole, more than
    `MAX_FIGURE`) is charged as the hold's whole amount.

    Its reply is kept for a re-run in the same step, under `round` of the hold's task and `call` (none: it is
    not kept). An empty `reply` stands for one that could not be used. `called_json` is the call as the
    recorder is to have it, a JSON object; "" where it is not to be told.
    """

    hold_id: str
    cost_microusd: int | float | None
    charge_json: str = ""
    round: int = 0
    call: str = ""
    reply: str = ""
    called_json: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """A tenant's money: limits and what is settled in each window; what is held."""

    limits: dict[str, int]
    """By what they limit: ``day``, ``agent/NAME/day``, ``model/NAME/hour`` …"""
    settled: dict[str, int]
    """By window id: ``lifetime``, ``day:2026-11-22`` …"""
    held: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What an agent's or a model's calls cost."""

    settled: dict[str, int]
    """By window id."""
    held: int
    calls: int
    factor: float
    """How much of its worst case is held for a call of a model: above 1 for a day after one cost more."""


Answer: TypeAlias = BudgetExceeded | LeaseLost | Short | None


class Ledger:
    """One tenant's ledger."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def reserve(
        self, reservations: Sequence[Reservation], *, term: int, by: str, fleet: str = ""
    ) -> list[Answer]:
        """Reserve. Per reservation: None when granted, else why not. Idempotent by hold id.

        Args:
            fleet: "" where the fleet has no limit; `fleetledger.ASK` answers `Short` for what must be drawn
                from the fleet's ledger first; `fleetledger.refusal_text` refuses that for what it says.
        Raises:
            OldTerm: a newer governor acts.
        """
        asked: list[str | int] = []
        for hold, task, token, amount, ttl_s, agent, model in reservations:
            life_us = round(min(ttl_s, LONGEST_HOLD_S) * 1e6)
            asked += (hold, task, token, amount, life_us, agent, model)
        answers = await self._scripts.run("reserve_holds", [self.keys.root], term, by, fleet, *asked)
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
        for hold, cost, charge, round_, call, reply, called in settlements:
            asked += (hold, "" if cost is None else str(cost), charge, round_, call, reply, called)
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

    async def set_limits(
        self, limits: Mapping[str, int], *, by: str, reason: str = "", stated: str = ""
    ) -> None:
        """Make exactly these the limits (µ$).

        Args:
            stated: what the environment says, as written: nothing is set while that is what it said last.
        """
        fields = (field for limit, amount in limits.items() for field in (str(limit), amount))
        await self._scripts.run("set_limits", [self.keys.root], by, reason, stated, *fields)

    async def change_limits(
        self,
        changes: Mapping[str, int | None],
        operation: str,
        *,
        by: str,
        reason: str,
        may_raise: bool = True,
    ) -> dict[str, int]:
        """Change some limits (µ$), None to remove one; once for an operation. The limits as they are then.

        Args:
            may_raise: whether it may raise or remove what stands.
        Raises:
            Conflict: one would be raised that must not be: nothing was changed.
            InvalidRequest: there would be more than `MOST_LIMITS`; nothing was changed.
            Conflict: it would raise one and may not; nothing was changed.
        """
        fields = (
            field
            for limit, amount in changes.items()
            for field in (str(limit), "" if amount is None else amount)
        )
        answer = await self._scripts.run(
            "change_limits", [self.keys.root], operation, by, reason, MOST_LIMITS, int(may_raise), *fields
        )
        if answer == Refusal.LOST:
            raise Conflict(
                "a limit was lowered meanwhile, which this would raise: look at them and ask again"
            )
        if answer == Refusal.FULL:
            raise InvalidRequest(f"a tenant has at most {MOST_LIMITS:,} limits: remove some first")
        return await self.limits()

    async def limits(self) -> dict[str, int]:
        """The limits (µ$) by what they limit."""
        with translated():
            return {
                limit: int(amount) for limit, amount in (await self._redis.hgetall(self.keys.limits)).items()
            }

    async def balance(self) -> Balance:
        """Limits, settled and held."""
        with translated():
            ledger = await self._redis.hgetall(self.keys.ledger)
            return Balance(
                limits=await self.limits(), settled=_settled(ledger), held=int(ledger.get("held", 0))
            )

    async def subjects(self) -> dict[str, Figures]:
        """Each agent's and model's money: ``agent/NAME``, ``model/NAME``; those named last come first."""
        with translated():
            names = list(await self._redis.zrevrange(self.keys.subjects, 0, -1))
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(self.keys.of("subject", name))
                pipe.time()
                *found, (seconds, _) = await pipe.execute()
            return {name: _figures(hash_, int(seconds)) for name, hash_ in zip(names, found, strict=True)}


def _settled(ledger: Mapping[str, str]) -> dict[str, int]:
    return {
        name.removeprefix("settled:"): int(value)
        for name, value in ledger.items()
        if name.startswith("settled:")
    }


def _figures(stored: Mapping[str, str], now_s: int) -> Figures:
    lately = int(stored.get("factor_until", 0)) > now_s * 1e6
    return Figures(
        settled=_settled(stored),
        held=int(stored.get("held", 0)),
        calls=int(stored.get("calls", 0)),
        factor=int(stored["factor"]) / 1e6 if lately else 1.0,
    )


def _refusal(one: Reservation, answer: Sequence[str | int]) -> Answer:
    if answer[0] == Refusal.OVER_LIMIT:
        return BudgetExceeded(
            RefusalKind(str(answer[1])),
            str(answer[2]),
            int(answer[3]),
            int(answer[4]),
            int(answer[5]),
            one.amount_microusd,
            float(answer[6]),
            int(answer[7]),
        )
    if answer[0] == Refusal.SHORT:
        return Short(int(answer[1]), int(answer[2]))
    if answer[0] == Refusal.LOST:
        return lease_lost(one.task_id, one.token, answer)
    return None
