"""The orchestrator: plans missions, sees how they stand, passes failures on, sweeps, rescues.

Every duty is idempotent and resumes from the store at any cut. Rescue needs no leader: each
replica does it. All else is the leader's, under its term.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from chimera.core.mission import MISSION_FINAL
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.planner import Planner
from chimera.runtime.service import Service
from chimera.store.reach import Reach
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
        self._named: set[str] = set()
        self._planner = Planner(base)
        self._bulkhead = Bulkhead(self.name)

    async def wait(self) -> None:
        self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        term = self._elector.term
        if term is None:
            return
        named, self._named = self._named, set()
        try:
            for tenant in named or await self._base.tenants.names():
                # Once a second everything active is looked at: a lost signal costs no more.
                with self._bulkhead.of(tenant):
                    await self.tend(tenant, term=term, everything=not named)
        except OldTerm:
            log.warning("orchestrator.superseded", term=term)

    async def tend(self, tenant: str, *, term: int, everything: bool) -> None:
        """Do all duties for one tenant once. A damaged mission holds up no other.

        Raises:
            OldTerm: a newer leader acts.
        """
        store, by = self._base.of(tenant).missions, self._elector.replica
        agenda = await store.agenda()
        active = await store.active() if everything else []
        ended = await self._look_at(tenant, sorted({*agenda.dirty, *active}), term)
        # Bounded batches, one after another: each lets others at the store between.
        moved = False
        if agenda.failures:
            with self._bulkhead.of(tenant):
                while await store.pass_failures(term=term, by=by):
                    pass
                moved = True
        for mission_id in agenda.revive:
            with self._bulkhead.of(tenant, mission_id):
                while await store.revive(mission_id, term=term, by=by):
                    pass
                moved = True
        for mission_id in sorted({*agenda.sweep, *ended}):
            with self._bulkhead.of(tenant, mission_id):
                while await store.sweep(mission_id, term=term, by=by):
                    pass
        if moved:
            # Their missions may be over by it: those are to be looked at now, and not with the next signal.
            await self._look_at(tenant, (await store.agenda()).dirty, term)

    async def _look_at(self, tenant: str, mission_ids: list[str], term: int) -> list[str]:
        """See how missions stand, and plan those that go on. Returns those to sweep."""
        store, by = self._base.of(tenant).missions, self._elector.replica
        ended: list[str] = []
        standings = await store.settle_many(mission_ids, term=term, by=by)
        for mission_id, standing in zip(mission_ids, standings, strict=True):
            with self._bulkhead.of(tenant, mission_id):
                if isinstance(standing, Exception):
                    raise standing
                if standing is None:
                    continue
                if standing.sweep:
                    ended.append(mission_id)
                if not standing.planned_all and standing.status not in MISSION_FINAL:
                    await self._planner.plan(tenant, mission_id, term=term, by=by)
        return ended


class Rescuer(Service):
    """Gives expired leases back to work; needs no leader."""

    name = "rescuer"
    sweep_s = 0.25

    def __init__(self, base: Base, replica: str) -> None:
        super().__init__()
        self._base = base
        self._replica = replica
        self._reach = Reach()
        self._bulkhead = Bulkhead(self.name)
        self._tenants: list[str] = []
        self._due_at = 0.0

    async def wait(self) -> None:
        # A pass over a slow store is its own pause: who comes round too seldom cannot tell a store that was
        # away from its own slowness.
        await asyncio.sleep(max(0.0, self._due_at - time.monotonic()))

    async def run_once(self) -> None:
        self._due_at = time.monotonic() + self.sweep_s
        names, _ = await asyncio.gather(
            self._base.tenants.names(), self._bulkhead.each(self._tenants, self._rescue)
        )
        self._tenants = names

    async def _rescue(self, tenant: str) -> None:
        rescued, gone, _ = await self._base.of(tenant).tasks.rescue(
            self._replica, lease_s=self._base.settings.lease_s, reach=self._reach
        )
        if rescued or gone:
            log.warning("leases.rescued", tenant=tenant, tasks=rescued, workers_gone=gone)
