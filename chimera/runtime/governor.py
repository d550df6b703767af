"""The governor: the ledger's only writer. It refuses any spend over a limit.

It acts under a term: while two live at once (a rolling upgrade), the store refuses the older.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import Any

import structlog

from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.canary import Trust
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.runtime.transfers import Transfers
from chimera.runtime.turns import Turns
from chimera.store.ledger import Reservation, Settlement
from chimera.store.requests import Request, understood
from chimera.store.scripts import OldTerm, Refusal
from chimera.store.signals import Wakeups

log = structlog.get_logger(__name__)

BATCH = 500
WITHDRAWN_S = 5.0
"""Who is refused because limits do not hold comes back after this."""

MOST_CALLED = 262_144
"""Characters of what is recorded of one call: who makes it says it, and may say too much."""

Answer = tuple[str, dict[str, Any]]
"""To whom, and what."""


class Governor(Service):
    """Answers every tenant's requests for money; ends holds that ran out."""

    name = "governor"
    sweep_s = 0.5

    def __init__(self, base: Base, elector: Elector, wakeups: Wakeups, trust: Trust | None = None) -> None:
        super().__init__()
        self._trust = trust or Trust()
        self._base = base
        self._elector = elector
        self._wakeups = wakeups
        self._named: set[str] = set()
        self._bulkhead = Bulkhead(self.name)
        self._turns = Turns()
        self._transfers = Transfers(base)
        self._term = 0

    async def wait(self) -> None:
        self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        term = await self._elector.led()
        # Woken for some tenants: those only. On a sweep: all of them, and holds that ran out too.
        named, self._named = self._named, set()
        try:
            # A new leader looks at all before it grants: the last one may have left transfers half done.
            if sweeps := not named or term != self._term:
                await self._transfers.look(term, anew=term != self._term)
                self._term = term
            # The canary, which is no tenant, is only ever named: should a signal be lost, it asks again.
            names = await self._base.tenants.names() if sweeps else named
            for tenant in self._turns.of(names):
                with self._bulkhead.of(tenant):
                    if await self._answer(tenant, term) == BATCH:
                        self._wakeups.name(tenant)  # the rest when it is its turn again
                    if sweeps:
                        await self._expire(tenant, term)
                        await self._transfers.tell(tenant, term)
            # A call of a tenant that was removed may be settled late, a draw arrive with its removal.
            for tenant in self._transfers.left(names) if sweeps else ():
                with self._bulkhead.of(tenant):
                    await self._transfers.tell(tenant, term)
        except OldTerm:
            log.warning("governor.superseded", term=term)

    async def _expire(self, tenant: str, term: int) -> None:
        """After the requests: what was settled in time is not charged at its worst case first."""
        expired = await self._base.of(tenant).ledger.expire(term=term, by=self._elector.replica)
        if expired:
            self._transfers.spent(tenant)
            log.warning("holds.expired", tenant=tenant, holds=expired)

    async def _answer(self, tenant: str, term: int) -> int:
        """Do what stands at the front of a tenant's requests. Returns how many."""
        stores = self._base.of(tenant)
        read = await stores.requests.peek(BATCH)
        if not read:
            return 0
        asked: dict[str, list[Request]] = defaultdict(list)
        for text in read:
            if (request := understood(text)) is None:
                # It is removed with the others: a broken one must not stop a tenant's money.
                log.error("request.unreadable", tenant=tenant, request=text[:200])
            else:
                asked[request["do"]].append(request)
        # Settlements first: what they free a reservation may need, what they keep a re-run looks for.
        await self._settle(stores, tenant, asked["settle"], term)
        await self._forget(stores, asked["forget"], term)
        answers = await self._find(stores, asked["find"])
        over = {one["hold"] for one in asked["settle"]}
        reserves = [one for one in asked["reserve"] if one["id"] not in over]
        if self._trust.withdrawn(tenant):
            # Limits do not hold: the script that should refuse is not asked.
            answers += [(one["from"], {"id": one["id"]} | withdrawn(one)) for one in once(reserves)]
        else:
            answers += await self._reserve(stores, tenant, reserves, term)
        await stores.requests.answer(
            answers, len(read), uuid.uuid4().hex, term=term, by=self._elector.replica
        )
        return len(read)

    async def _settle(self, stores: TenantStores, tenant: str, asked: list[Request], term: int) -> None:
        if not asked:
            return
        settlements = [
            Settlement(
                one["hold"],
                one["cost"],
                one["charge"],
                one["round"],
                one["call"],
                one["reply"],
                one["called"] if len(one["called"]) <= MOST_CALLED else "",
            )
            for one in asked
        ]
        done = await stores.ledger.settle(
            settlements,
            term=term,
            by=self._elector.replica,
            keep_s=round(self._base.settings.keep_replies_s),
            keep_bytes=self._base.settings.max_kept_bytes,
        )
        self._transfers.spent(tenant)
        for one, refusal in zip(settlements, done, strict=True):
            if refusal is Refusal.MISSING and one.cost_microusd is not None:
                log.error("settle.unknown_hold", tenant=tenant, hold=one.hold_id)
            if refusal is Refusal.NO_COST:
                said = str(one.cost_microusd)[:40]
                log.error("settle.no_cost", tenant=tenant, hold=one.hold_id, asked=said)

    async def _forget(self, stores: TenantStores, asked: list[Request], term: int) -> None:
        if asked:
            await stores.ledger.forget([(one["task"], int(one["round"])) for one in asked], term=term)

    async def _find(self, stores: TenantStores, asked: list[Request]) -> list[Answer]:
        asked = once(asked)
        if not asked:
            return []
        replies = await stores.ledger.kept([(one["task"], one["round"], one["call"]) for one in asked])
        return [
            (one["from"], {"id": one["id"]} | ({"code": "absent"} if reply is None else kept(reply)))
            for one, reply in zip(asked, replies, strict=True)
        ]

    async def _reserve(
        self, stores: TenantStores, tenant: str, asked: list[Request], term: int
    ) -> list[Answer]:
        asked = once(asked)
        if not asked:
            return []
        wanted = [
            Reservation(
                one["id"], one["task"], one["token"], one["amount"], one["ttl_s"], one["agent"], one["model"]
            )
            for one in asked
        ]
        refusals = await self._transfers.reserve(stores.ledger, tenant, wanted, term, self._elector.replica)
        return [
            (one["from"], {"id": one["id"]} | granted_or(refusal))
            for one, refusal in zip(asked, refusals, strict=True)
        ]


def once(asked: list[Request]) -> list[Request]:
    """Without repeats: who waits for long asks again."""
    return list({one["id"]: one for one in asked}.values())


def kept(reply: str) -> dict[str, Any]:
    """The answer of a call that an earlier run paid for."""
    return {"code": "kept", "reply": reply}


def withdrawn(asked: Request) -> dict[str, Any]:
    """The answer to a reservation while the canary's failure stands."""
    refusal = BudgetExceeded(RefusalKind.WINDOW, "brake/frozen", 0, 0, 0, asked["amount"], WITHDRAWN_S)
    return granted_or(refusal)


def granted_or(refusal: BudgetExceeded | LeaseLost | None) -> dict[str, Any]:
    """The answer to a reservation."""
    if refusal is None:
        return {"code": "granted"}
    return {
        "code": "lost" if isinstance(refusal, LeaseLost) else "refused",
        "fields": list(refusal.args),
    }
