"""The fleet controller: keeps as many workers as the work wants, and no more.

It alone replaces the hub's workers: nothing restarts them behind its back. A tenant that has no worker gets a
spare first, if there is one (`runtime.reserve`); one whose quota says `spoke` gets none here, for its spoke
keeps them (`runtime.spoke`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from chimera.runtime.backend import Backend
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.reserve import Reserve
from chimera.runtime.service import Service
from chimera.runtime.staffing import Staffing
from chimera.store.damage import apart
from chimera.store.signals import Wakeups
from chimera.store.tenants import TenantRecord


class FleetController(Service):
    """One pass: what exists, and of whom → as many as are wanted."""

    name = "fleet controller"
    sweep_s = 0.5

    def __init__(self, base: Base, elector: Elector, backend: Backend, wakeups: Wakeups) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._backend = backend
        self._wakeups = wakeups
        self._reserve = Reserve(base, backend)
        self._bulkhead = Bulkhead(self.name)
        self._staffing = Staffing(
            base, elector, backend, "orchestrator", self._bulkhead, spare=self._reserve.give
        )

    async def wait(self) -> None:
        await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        if self._elector.term is None:
            return
        now = time.monotonic()
        listed = await self._backend.list()
        bound = await self._reserve.look(listed)
        existing = {worker: tenant for worker, tenant in listed.items() if tenant} | bound
        await self._backend.equip(listed | bound)
        tenants = await self._base.tenants.names()
        await self._staffing.keep(tenants, await self._records(tenants), existing, now, bound)
        await self._reserve.fill(listed, now)

    async def _records(self, tenants: Sequence[str]) -> dict[str, TenantRecord]:
        """Every tenant as it stands, in one round trip; without those that cannot be read."""
        found, damaged = await apart(tenants, self._base.tenants.records)
        for tenant, exc in damaged.items():
            self._bulkhead.name(exc, tenant)
        return found
