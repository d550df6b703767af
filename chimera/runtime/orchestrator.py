"""The orchestrator: plans missions, sees how they stand, passes failures on, sweeps, rescues.

Every duty is idempotent and resumes from the store at any cut. Rescue needs no leader: each
replica does it. All else is the leader's, under its term.
"""

from __future__ import annotations

import structlog

from chimera.errors import CorruptRecord
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.planner import Planner
from chimera.runtime.service import Service
from chimera.store.scripts import OldTerm
from chimera.store.signals import Wakeups

log = structlog.get_logger(__name__)


class Orchestrator(Service):
    """The leader's duties, tenant by tenant in turn."""

    name = "orchestrator"
    sweep_s = 1.0

    def __init__(self, base: Base, elector: Elector, wakeups: Wakeups) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._wakeups = wakeups
        self._planner = Planner(base)
        self._named: set[str] = set()

    async def wait(self) -> None:
        self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        term = self._elector.term
        named, self._named = self._named, set()
        if term is None:
            return
        try:
            for tenant in named or await self._base.tenants.names():
                # Once a second everything active is looked at: a lost signal costs no more.
                await self.tend(tenant, term=term, everything=not named)
        except OldTerm:
            log.warning("orchestrator.superseded", term=term)

    async def tend(self, tenant: str, *, term: int, everything: bool) -> None:
        """Do all duties for one tenant once.

        Raises:
            OldTerm: a newer leader acts.
        """
        missions, by = self._base.of(tenant).missions, self._elector.replica
        look_at = set(await missions.take_dirty())
        look_at.update(await missions.due(await missions.now_us()))
        if everything:
            look_at.update(await missions.active())
        for mission_id in sorted(look_at):
            try:
                await missions.settle(mission_id, term=term, by=by)
                if (await missions.get(mission_id)).finished_at_us == 0:
                    await self._planner.plan(tenant, mission_id, term=term, by=by)
            except CorruptRecord:
                # One damaged mission must not hold up the others.
                log.exception("mission.damaged", tenant=tenant, mission_id=mission_id)
        # Bounded batches, one after another: each lets others at the store between.
        left = 1
        while left:
            left = await missions.pass_failures(term=term, by=by)
        for mission_id in await missions.to_revive():
            left = 1
            while left:
                left = await missions.revive(mission_id, term=term, by=by)
        for mission_id in await missions.to_sweep():
            left = 1
            while left:
                left = await missions.sweep(mission_id, term=term, by=by)


class Rescuer(Service):
    """Gives expired leases back to work; needs no leader."""

    name = "rescuer"
    sweep_s = 0.25

    def __init__(self, base: Base, replica: str) -> None:
        super().__init__()
        self._base = base
        self._replica = replica

    async def run_once(self) -> None:
        for tenant in await self._base.tenants.names():
            rescued, gone, _ = await self._base.of(tenant).tasks.rescue(
                self._replica, lease_s=self._base.settings.lease_s
            )
            if rescued or gone:
                log.warning("leases.rescued", tenant=tenant, tasks=rescued, workers_gone=gone)
