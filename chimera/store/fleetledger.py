"""The fleet's own ledger: limits over all tenants, strict across slots by transfers. The governor's alone.

A script touches one slot, and a tenant's keys are in another than the fleet's. So tenants draw:

1. *draw*: the fleet's ledger holds an amount for a tenant, if every fleet limit allows it;
2. *take*: the tenant's allowance grows by it, once; its reservations are held within its allowance;
3. *close*: the fleet's ledger knows that it arrived, or, where it was given up, has it back.

and tell, in a parcel, what they spent and what they give back: *pack* at the tenant, *book* at the fleet,
*drop* at the tenant. Draws and parcels are numbered and there is one of each at a time, so every step may be
repeated, and whoever finds one half done can finish it. At any instant the fleet's settled + held is no less
than what all tenants have settled and hold; but for an overrun, or what they held before there was a limit,
until the next sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chimera.errors import BudgetExceeded, RefusalKind
from chimera.store.connection import Redis, translated
from chimera.store.keys import FLEET, TenantKeys
from chimera.store.ledger import Balance, Ledger
from chimera.store.scripts import Scripts, under_term

ASK = "ask"
"""In place of what the fleet refused: nothing yet (see `Ledger.reserve`)."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a tenant drew.

    Attributes:
        number: of its draws; the last one's where nothing was drawn.
        amount_microusd: 0 for nothing.
        refused: what keeps the rest back, or None.
    """

    number: int
    amount_microusd: int
    refused: BudgetExceeded | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a tenant tells: what it spent of what it drew, what it gives back, and all it spent, by minute."""

    number: int
    covered_microusd: int
    back_microusd: int
    spent: tuple[str, ...]


class FleetLedger:
    """The fleet's ledger, and the tenants' side of its transfers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._ledger = Ledger(redis, FLEET)
        self.keys = TenantKeys(FLEET)
        self.set_limits, self.change_limits = self._ledger.set_limits, self._ledger.change_limits
        self.limits = self._ledger.limits

    async def balance(self) -> Balance:
        """The fleet's limits; what tenants told that they spent; `held`: what they drew and did not spend."""
        return await self._ledger.balance()

    async def draw(
        self, tenant: str, *, need: int, least: int, more: int = 0, over: bool = False, term: int
    ) -> Draw:
        """First step. A draw that may not have arrived is given again.

        Args:
            need, least, more: µ$ (see draw_allowance.lua).
            over: whatever the limits say: the tenant holds it already.
        Raises:
            OldTerm: a newer governor acts.
        """
        answer = under_term(
            await self._scripts.run(
                "draw_allowance", [self.keys.root], term, tenant, need, least, more, int(over)
            )
        )
        number, amount, *refused = answer
        return Draw(int(number), int(amount), _refused(refused, need) if refused else None)

    async def take(self, tenant: str, number: int, amount_microusd: int | None, *, term: int) -> bool:
        """Second step; None gives the draw up. Whether it was taken.

        Raises:
            OldTerm: a newer governor acts.
        """
        amount = "" if amount_microusd is None else amount_microusd
        keys = [TenantKeys(tenant).root]
        return bool(under_term(await self._scripts.run("take_allowance", keys, term, number, amount)))

    async def close(self, tenant: str, number: int, *, taken: bool, term: int) -> None:
        """Third step.

        Raises:
            OldTerm: a newer governor acts.
        """
        under_term(await self._scripts.run("close_draw", [self.keys.root], term, tenant, number, int(taken)))

    async def open_draws(self, *, older_than_s: float = 0.0) -> list[tuple[str, int]]:
        """Draws that may not have arrived, each ``(tenant, number)``."""
        with translated():
            until: float = float("inf")
            if older_than_s:
                seconds, micros = await self._redis.time()
                until = int(seconds) * 1_000_000 + int(micros) - round(older_than_s * 1e6)
            tenants: Sequence[str] = await self._redis.zrangebyscore(self.keys.draws, "-inf", until)
            found = []
            for tenant in tenants:
                number = await self._redis.hget(self.keys.of("draw", tenant), "number")
                found.append((tenant, int(number or 0)))
            return found

    async def pack(self, tenant: str, *, give_back: bool, term: int) -> Parcel | None:
        """A tenant's next parcel, or the one that may not have arrived; None when there is nothing to tell.

        Raises:
            OldTerm: a newer governor acts.
        """
        keys = [TenantKeys(tenant).root]
        answer = under_term(await self._scripts.run("pack_parcel", keys, term, int(give_back)))
        if not answer:
            return None
        number, covered, back, *spent = answer
        return Parcel(int(number), int(covered), int(back), tuple(map(str, spent)))

    async def book(self, tenant: str, parcel: Parcel, *, term: int) -> None:
        """The fleet's ledger takes the parcel, once.

        Raises:
            OldTerm: a newer governor acts.
        """
        figures = (parcel.number, parcel.covered_microusd, parcel.back_microusd)
        answer = await self._scripts.run(
            "book_parcel", [self.keys.root], term, tenant, *figures, *parcel.spent
        )
        under_term(answer)

    async def drop(self, tenant: str, parcel: Parcel, *, term: int) -> None:
        """The parcel has arrived.

        Raises:
            OldTerm: a newer governor acts.
        """
        keys = [TenantKeys(tenant).root]
        under_term(await self._scripts.run("drop_parcel", keys, term, parcel.number))

    async def uncovered(self, tenant: str) -> int:
        """What a tenant holds beyond what it drew, µ$: from before there was a limit, or after an overrun."""
        keys = TenantKeys(tenant)
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(keys.ledger, "held")
                pipe.hget(keys.purse, "allowance")
                held, allowance = await pipe.execute()
        return max(0, int(held or 0) - int(allowance or 0))


def refusal_text(refused: BudgetExceeded) -> str:
    """As reserve_holds.lua takes it."""
    figures = (refused.limit_microusd, refused.settled_microusd, refused.held_microusd)
    return " ".join(map(str, (refused.kind, refused.level, *figures, round(refused.retry_after_s))))


def _refused(answer: Sequence[str | int], amount: int) -> BudgetExceeded:
    kind, level, limit, settled, held, resets = answer
    return BudgetExceeded(
        RefusalKind(str(kind)), str(level), int(limit), int(settled), int(held), amount, float(resets)
    )
