"""Transfers between the tenants' ledgers and the fleet's, the governor's alone: `chimera.store.fleetledger`.

A tenant draws when a reservation needs it, a little ahead where the fleet has plenty. What it drew and needs
no longer goes back after a moment, at once while somebody is refused. What it spent is told in every sweep.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import structlog

from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.store.fleetledger import ASK, FleetLedger, refusal_text
from chimera.store.ledger import Answer, Ledger, Reservation, Short

log = structlog.get_logger(__name__)

AHEAD = 4
"""So many times what is needed is drawn ahead, where the fleet has plenty."""
COLD_S = 2.0
"""What was drawn goes back when nothing was drawn for so long."""
TIGHT_S = 5.0
"""For so long after a refusal nothing is drawn ahead, and what is not held goes back at once."""
LATE_S = 5.0
"""A draw that has not arrived after this long is given up."""
MOST_PASSES = 5


class Transfers:
    """One governor's."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._fleet = FleetLedger(base.redis)
        self._bulkhead = Bulkhead("transfers")
        self._limited = False
        self._untold: set[str] = set()
        """Tenants that may have something to tell."""
        self._drew_at: dict[str, float] = {}
        self._tight_until = 0.0

    def spent(self, tenant: str) -> None:
        """A tenant's figures moved: there may be something to tell."""
        self._untold.add(tenant)

    def left(self, names: Collection[str]) -> list[str]:
        """Tenants that may have something to tell and are not among these: they were removed meanwhile."""
        return sorted(self._untold.difference(names))

    async def look(self, term: int, *, anew: bool) -> None:
        """Before each sweep: whether there is a limit, and draws that did not arrive.

        Args:
            anew: this governor has just begun to lead: nothing that another left half done is under way.
        Raises:
            OldTerm: a newer governor acts.
        """
        for tenant, number in await self._fleet.open_draws(older_than_s=0 if anew else LATE_S):
            with self._bulkhead.of(tenant):
                taken = await self._fleet.take(tenant, number, None, term=term)
                await self._fleet.close(tenant, number, taken=taken, term=term)
                log.warning("draw.closed", tenant=tenant, number=number, taken=taken)
        limited = bool(await self._fleet.limits())
        if anew or limited != self._limited:
            self._untold.update(await self._base.tenants.names())
        if limited and (anew or not self._limited):
            # What tenants spent and hold without having drawn it counts before anything is granted.
            for tenant in sorted(self._untold):
                with self._bulkhead.of(tenant):
                    await self.tell(tenant, term, limited=True)
        self._limited = limited

    async def reserve(
        self, ledger: Ledger, tenant: str, wanted: Sequence[Reservation], term: int, by: str
    ) -> list[BudgetExceeded | LeaseLost | None]:
        """As `Ledger.reserve`, within the fleet's limits too.

        Raises:
            OldTerm: a newer governor acts.
        """
        fleet = ASK if self._limited else ""
        answers: list[Answer] = await ledger.reserve(wanted, term=term, by=by, fleet=fleet)
        for last in (*[False] * (MOST_PASSES - 1), True):
            short = {place: one for place, one in enumerate(answers) if isinstance(one, Short)}
            if not short:
                break
            refused = await self._draw(tenant, list(short.values()), term)
            if last and refused is None:
                break
            again = await ledger.reserve(
                [wanted[place] for place in short],
                term=term,
                by=by,
                fleet=ASK if refused is None else refusal_text(refused),
            )
            for place, answer in zip(short, again, strict=True):
                answers[place] = answer
        return [_final(answer) for answer in answers]

    async def _draw(self, tenant: str, short: Sequence[Short], term: int) -> BudgetExceeded | None:
        """Draw what reservations lack. What the fleet refused of it, or None."""
        now = time.monotonic()
        amounts = [one.amount_microusd for one in short]
        lacking = short[0].beyond_microusd - amounts[0]  # below 0: so much of the allowance is free
        need = lacking + sum(amounts)
        more = 0 if now < self._tight_until else AHEAD * need
        drawn = await self._fleet.draw(
            tenant, need=need, least=max(1, lacking + min(amounts)), more=more, term=term
        )
        if drawn.amount_microusd:
            taken = await self._fleet.take(tenant, drawn.number, drawn.amount_microusd, term=term)
            await self._fleet.close(tenant, drawn.number, taken=taken, term=term)
        self._drew_at[tenant] = now
        self._untold.add(tenant)
        if drawn.refused is not None:
            self._tight_until = now + TIGHT_S
        return drawn.refused

    async def tell(self, tenant: str, term: int, *, limited: bool | None = None) -> None:
        """Tell the fleet's ledger what a tenant spent and gives back, and draw what it holds without.

        Raises:
            OldTerm: a newer governor acts.
        """
        limited = self._limited if limited is None else limited
        if tenant not in self._untold:
            return
        now = time.monotonic()
        cold = now - self._drew_at.get(tenant, 0.0) > COLD_S
        give_back = not limited or cold or now < self._tight_until
        parcel = await self._fleet.pack(tenant, give_back=give_back, term=term)
        if parcel is not None:
            await self._fleet.book(tenant, parcel, term=term)
            await self._fleet.drop(tenant, parcel, term=term)
        lacking = await self._fleet.uncovered(tenant) if limited else 0
        if lacking:
            drawn = await self._fleet.draw(tenant, need=lacking, least=lacking, over=True, term=term)
            taken = await self._fleet.take(tenant, drawn.number, drawn.amount_microusd, term=term)
            await self._fleet.close(tenant, drawn.number, taken=taken, term=term)
        if parcel is None and give_back and not lacking:
            self._untold.discard(tenant)
            self._drew_at.pop(tenant, None)


def _final(answer: Answer) -> BudgetExceeded | LeaseLost | None:
    if isinstance(answer, Short):  # it never is: what was drawn suffices, and nobody else spends of it
        log.error("draw.insufficient", amount=answer.amount_microusd, beyond=answer.beyond_microusd)
        return BudgetExceeded(RefusalKind.CONTENDED, "fleet", 0, 0, 0, answer.amount_microusd)
    return answer
