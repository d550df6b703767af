"""The orchestrator: plans missions, sees how they stand, passes failures on, sweeps, rescues.

Every duty is idempotent and resumes from the store at any cut. Rescue needs no leader: each
replica does it. All else is the leader's, under its term.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from chimera.core.mission import MISSION_FINAL
from chimera.errors import ChimeraError
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.planner import Planner
from chimera.runtime.service import Service
from chimera.runtime.turns import Turns
from chimera.store.missions import Standing
from chimera.store.reach import Reach
from chimera.store.scripts import OldTerm
from chimera.store.signals import Wakeups

log = structlog.get_logger(__name__)

MISSIONS, WINDOWS, BATCHES = 50, 2, 10
"""What one tenant's turn may take, so that the next one's comes soon: missions looked at, windows of tasks
planned beside the last of a mission, batches of tasks ended, told or brought back."""


class Orchestrator(Service):
    """The leader's duties, tenant by tenant in turn."""

    name = "orchestrator"
    sweep_s = 1.0
    hung_s = 3_600.0  # a million inputs are made into tasks in one

    def __init__(self, base: Base, elector: Elector, wakeups: Wakeups) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._wakeups = wakeups
        self._named: set[str] = set()
        self._planner = Planner(base)
        self._bulkhead = Bulkhead(self.name)
        self._turns = Turns()
        self._agenda: dict[str, dict[str, None]] = {}
        """Missions that each tenant's turn did not come to, the next one first."""

    async def wait(self) -> None:
        self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        term = self._elector.term
        if term is None:
            return
        named, self._named = self._named, set()
        try:
            for tenant in self._turns.of(named or await self._base.tenants.names()):
                # Once a second everything active is looked at: a lost signal costs no more.
                with self._bulkhead.of(tenant):
                    if await self.tend(tenant, term=term, everything=not named):
                        self._wakeups.name(tenant)  # the rest when it is its turn again
        except OldTerm:
            log.warning("orchestrator.superseded", term=term)

    async def tend(self, tenant: str, *, term: int, everything: bool) -> bool:
        """Do a turn's worth of all duties for one tenant. True: there is more to do.

        A damaged mission holds up no other.

        Raises:
            OldTerm: a newer leader acts.
        """
        standings, left = await self._look(tenant, term, everything=everything)
        windows = 0
        for mission_id, standing in standings:
            with self._bulkhead.of(tenant, mission_id):
                if isinstance(standing, Exception):
                    raise standing
                if standing is None or standing.planned_all or standing.status in MISSION_FINAL:
                    continue
                if windows == WINDOWS:
                    left[mission_id] = None
                elif await self._planner.plan_some(tenant, mission_id, term=term, by=self._elector.replica):
                    left[mission_id] = None  # behind those that were not looked at
                    windows += 1
        more = await self._end_and_revive(tenant, term)
        if not left:
            del self._agenda[tenant]
        return more or bool(left)

    async def _look(
        self, tenant: str, term: int, *, everything: bool
    ) -> tuple[list[tuple[str, Standing | ChimeraError | None]], dict[str, None]]:
        """How missions stand: those that changed first, then those that were left. And what is left now."""
        store = self._base.of(tenant).missions
        left = dict.fromkeys(await store.dirty()) | self._agenda.get(tenant, {})
        if everything:
            left |= dict.fromkeys(await store.active())
        self._agenda[tenant] = left
        ids = list(left)[:MISSIONS]
        standings = await store.settle_many(ids, term=term, by=self._elector.replica)
        for mission_id in ids:
            del left[mission_id]
        return list(zip(ids, standings, strict=True)), left

    async def _end_and_revive(self, tenant: str, term: int) -> bool:
        """Pass failures on, bring back and sweep tasks: a few bounded batches. True: there are more."""
        missions, by = self._base.of(tenant).missions, self._elector.replica
        chores = await missions.chores()
        batches = BATCHES

        async def work(mission_id: str, batch: Callable[[], Awaitable[int]]) -> None:
            nonlocal batches
            left = 1
            with self._bulkhead.of(tenant, mission_id):
                while left and batches > 0:
                    left, batches = await batch(), batches - 1

        if chores.failures:
            await work("", partial(missions.pass_failures, term=term, by=by))
        for mission_id in chores.revive:
            await work(mission_id, partial(missions.revive, mission_id, term=term, by=by))
        for mission_id in chores.sweep:
            await work(mission_id, partial(missions.sweep, mission_id, term=term, by=by))
        # Missions may be over by it: those are looked at in the next turn, and not with the next signal.
        return batches <= 0 or (batches < BATCHES and bool(chores.failures or chores.revive))


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
