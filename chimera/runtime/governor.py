"""The governor: the ledger's only writer. It refuses any spend over a limit.

It acts under a term: while two live at once (a rolling upgrade), the store refuses the older.
"""

from __future__ import annotations

import json
from typing import Any

import structlog

from chimera.errors import BudgetExceeded, LeaseLost
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.store.ledger import Reservation, Settlement
from chimera.store.scripts import OldTerm
from chimera.store.signals import Wakeups

log = structlog.get_logger(__name__)

BATCH = 500


class Governor(Service):
    """Answers every tenant's requests for money; expires holds."""

    name = "governor"
    sweep_s = 0.5

    def __init__(self, base: Base, elector: Elector, wakeups: Wakeups) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._wakeups = wakeups
        self._named: set[str] = set()

    async def wait(self) -> None:
        self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        term = await self._elector.led()
        # Woken for some tenants: those only. Twice a second: a sweep over all, holds that ran out too.
        named, self._named = self._named, set()
        for tenant in named or await self._base.tenants.names():
            try:
                while await self._answer(tenant, term) == BATCH:
                    pass
                if not named:
                    expired = await self._base.of(tenant).ledger.expire(term=term, by=self._elector.replica)
                    if expired:
                        log.warning("holds.expired", tenant=tenant, holds=expired)
            except OldTerm:
                log.warning("governor.superseded", term=term)
                return

    async def _answer(self, tenant: str, term: int) -> int:
        stores = self._base.of(tenant)
        read = await stores.requests.peek(BATCH)
        if not read:
            return 0
        requests = [json.loads(request) for request in read]
        by = self._elector.replica
        # Settlements first: what they free may be just what a reservation needs.
        settles = [request for request in requests if request["do"] == "settle"]
        reserves = [request for request in requests if request["do"] == "reserve"]
        answers: list[tuple[str, dict[str, Any]]] = []
        if settles:
            done = await stores.ledger.settle(
                [Settlement(one["hold"], one["cost"], one["charge"]) for one in settles],
                term=term,
                by=by,
            )
            for one, known in zip(settles, done, strict=True):
                if not known:
                    log.error("settle.unknown_hold", tenant=tenant, hold=one["hold"])
                answers.append((one["from"], {"key": f"settle {one['hold']}", "code": "settled"}))
        if reserves:
            refusals = await stores.ledger.reserve(
                [
                    Reservation(one["hold"], one["task"], one["token"], one["amount"], one["ttl_s"])
                    for one in reserves
                ],
                term=term,
                by=by,
            )
            answers.extend(
                (one["from"], {"key": f"reserve {one['hold']}"} | _answer(refusal))
                for one, refusal in zip(reserves, refusals, strict=True)
            )
        await stores.requests.answer(answers, read)
        return len(read)


def _answer(refusal: BudgetExceeded | LeaseLost | None) -> dict[str, Any]:
    if refusal is None:
        return {"code": "granted"}
    return {
        "code": "lost" if isinstance(refusal, LeaseLost) else "refused",
        "fields": list(refusal.args),
    }
