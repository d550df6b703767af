"""Brakes: looks at every tenant's spending, and sets its brake or lets it go.

It runs beside the governor, under the same term. What is decided is `chimera.core.brake`; what binds is the
brake's state in Redis, which each reservation reads in its own step.
"""

from __future__ import annotations

import structlog

from chimera.core.brake import BrakeState, decide
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.canary import Trust
from chimera.runtime.elector import Elector
from chimera.runtime.herald import Herald
from chimera.runtime.service import Service
from chimera.runtime.turns import Turns
from chimera.store.brakes import BrakeStore, Look, Move
from chimera.store.scripts import OldTerm

log = structlog.get_logger(__name__)

AT_ONCE = 200
"""Tenants looked at in one round trip."""


class Brakes(Service):
    """Moves every tenant's brake.

    Args:
        trust: whether limits hold, as the canary found.
        herald: is told whose brake changed.
    """

    name = "brakes"
    sweep_s = 1.0

    def __init__(self, base: Base, elector: Elector, trust: Trust, herald: Herald) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._trust = trust
        self._herald = herald
        self._store = BrakeStore(base.redis)
        self._rules = base.settings.brake_rules
        self._bulkhead = Bulkhead(self.name)
        self._turns = Turns()

    async def run_once(self) -> None:
        term = await self._elector.led()
        try:
            # A person may have cleared it, or another governor have found it.
            self._trust.failure = (await self._store.canary()).failure
            names = self._turns.of(await self._base.tenants.names())
            for start in range(0, len(names), AT_ONCE):
                await self._look(names[start : start + AT_ONCE], term)
        except OldTerm:
            log.warning("brakes.superseded", term=term)

    async def _look(self, tenants: list[str], term: int) -> None:
        looks = await self._store.look(
            tenants, short_s=self._rules.short_s, long_s=self._rules.long_s, term=term
        )
        moves: list[Move] = []
        for tenant, look in looks.items():
            with self._bulkhead.of(tenant):
                if isinstance(look, ChimeraError):
                    raise look
                if look.notices:
                    self._herald.name_tenant(tenant)
                if (move := self._decide(tenant, look)) is not None:
                    moves.append(move)
        if not moves:
            return
        done = await self._store.move(moves, term=term, by=self._elector.replica)
        for move, stands in zip(moves, done, strict=True):
            with self._bulkhead.of(move.tenant):
                if isinstance(stands, ChimeraError):
                    raise stands
                if stands and move.decision.moves(move.seen):
                    self._moved(move)

    def _decide(self, tenant: str, look: Look) -> Move | None:
        decision = decide(look.brake, look.burn, self._rules, canary=self._trust.failure)
        self._trust.of(tenant, look.brake)
        return Move(tenant, look.brake, decision) if decision.changes(look.brake) else None

    def _moved(self, move: Move) -> None:
        self._herald.name_tenant(move.tenant)
        say = log.info if move.decision.state is BrakeState.OPEN else log.warning
        say(
            "brake.changed",
            tenant=move.tenant,
            before=str(move.seen.state),
            state=str(move.decision.state),
            cause=str(move.decision.cause),
            figures=dict(move.decision.figures),
        )
