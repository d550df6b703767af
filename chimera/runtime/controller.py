"""The fleet controller: keeps as many workers as the work wants, and no more.

What to have is `core.scaling`'s pure decision; this does it, through a backend that can start,
list and end workers. It alone replaces workers: nothing restarts them behind its back.
"""

from __future__ import annotations

import time
import uuid
from typing import Protocol

import structlog

from chimera.core.scaling import FleetShape, Lately, TenantLoad, desired_workers, needed
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.store.signals import Wakeups

log = structlog.get_logger(__name__)

STARTING_S = 60.0
"""A worker that has not beaten after this long is ended and replaced."""
SILENT_LEASES = 3
"""One that has beaten before and then falls silent gets this many leases."""


class Backend(Protocol):
    """Where workers live."""

    async def start(self, tenant: str, worker_id: str) -> None:
        """Begin a worker; returns once it is asked for, not once it beats."""
        ...

    async def list(self) -> dict[str, str]:
        """Workers that exist (alive or starting): id → tenant."""
        ...

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        """End a worker at once; nothing happens when it is gone.

        `process` is ``id@host`` as its last heartbeat had it, or "": a stopped process hears nothing else.
        """
        ...


class FleetController(Service):
    """One pass: snapshot → desired → start or drain."""

    name = "fleet controller"
    sweep_s = 0.5

    def __init__(self, base: Base, elector: Elector, backend: Backend, wakeups: Wakeups) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._backend = backend
        self._wakeups = wakeups
        self._started_at: dict[str, float] = {}
        self._lately: dict[str, Lately] = {}
        self._draining: set[str] = set()
        self._beat_at: dict[str, float] = {}
        self._tenant_of: dict[str, str] = {}
        self._bulkhead = Bulkhead(self.name)

    async def wait(self) -> None:
        await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        if self._elector.term is None:
            return
        settings = self._base.settings
        now = time.monotonic()
        existing = await self._backend.list()
        await self._bury(existing)
        tenants = await self._base.tenants.names()
        alive: dict[str, dict[str, dict[str, str]]] = {}
        loads: list[TenantLoad] = []
        for tenant in tenants:
            with self._bulkhead.of(tenant):
                alive[tenant] = await self._base.of(tenant).tasks.workers()
                loads.append(await self._load(tenant, existing, now))
        # Workers of a tenant whose load cannot be told stay, and keep their places.
        told = {load.tenant for load in loads}
        kept = sum(owner in tenants and owner not in told for owner in existing.values())
        shape = FleetShape(max(0, settings.max_workers - kept), settings.slots)
        desired = desired_workers(loads, shape)
        for load in loads:
            with self._bulkhead.of(load.tenant):
                await self._reconcile(load, desired[load.tenant], existing, alive[load.tenant], now)
        self._lately = {tenant: self._lately[tenant] for tenant in tenants if tenant in self._lately}
        self._draining &= set(existing)
        self._beat_at = {worker: at for worker, at in self._beat_at.items() if worker in existing}
        self._started_at = {worker: at for worker, at in self._started_at.items() if worker in existing}

    async def _load(self, tenant: str, existing: dict[str, str], now: float) -> TenantLoad:
        """What the tenant has and wants."""
        settings = self._base.settings
        backlog, running = await self._base.of(tenant).tasks.load()
        lately = self._lately.setdefault(tenant, Lately(settings.idle_s))
        mine = sum(owner == tenant and worker not in self._draining for worker, owner in existing.items())
        return TenantLoad(
            tenant=tenant,
            backlog=backlog,
            running=running,
            workers=mine,
            lately=lately.most(needed(backlog, running, settings.slots), now),
        )

    async def _bury(self, existing: dict[str, str]) -> None:
        """Give back the work of workers that were there and are no more: faster than their leases end."""
        for worker in sorted(self._tenant_of.keys() - existing.keys()):
            tenant = self._tenant_of[worker]
            if self._base.settings.fast_rescue:
                with self._bulkhead.of(tenant):
                    released = await self._base.of(tenant).tasks.release(worker, self._elector.replica)
                    if released:
                        log.warning("worker.died", tenant=tenant, worker=worker, tasks=released)
            del self._tenant_of[worker]  # not before: while the store is away it is tried again
        self._tenant_of.update(existing)

    async def _reconcile(
        self,
        load: TenantLoad,
        desired: int,
        existing: dict[str, str],
        alive: dict[str, dict[str, str]],
        now: float,
    ) -> None:
        tenant = load.tenant
        mine = {
            worker for worker, owner in existing.items() if owner == tenant and worker not in self._draining
        }
        self._beat_at.update(dict.fromkeys(mine & set(alive), now))
        for worker in sorted(mine - set(alive)):
            # It exists but does not beat: starting, or hung. Leases of a hung one are rescued anyway.
            since, patience_s = self._started_at.setdefault(worker, now), STARTING_S
            if worker in self._beat_at:
                since, patience_s = self._beat_at[worker], SILENT_LEASES * self._base.settings.lease_s
            if now - since > patience_s:
                log.warning("worker.silent", tenant=tenant, worker=worker)
                process = await self._base.of(tenant).tasks.process(worker)
                await self._backend.end(tenant, worker, process)
                mine.discard(worker)
        for _ in range(desired - len(mine)):
            worker = f"{tenant}-{uuid.uuid4().hex[:8]}"
            log.info("worker.starting", tenant=tenant, worker=worker)
            self._started_at[worker] = now
            await self._backend.start(tenant, worker)
        # The least busy leave first.
        leaving = sorted(mine, key=lambda worker: int(alive.get(worker, {}).get("busy", 0)))
        for worker in leaving[: max(0, len(mine) - desired)]:
            log.info("worker.draining", tenant=tenant, worker=worker)
            self._draining.add(worker)
            await self._base.of(tenant).tasks.drain(worker)
