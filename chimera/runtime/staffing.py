"""Staffing: gives tenants the workers that are wanted for them, and no more.

What to have is `core.scaling`'s pure decision; this does it, through a backend that can start, list and end
workers. The hub's fleet controller does so for all tenants, a spoke for its own.

A worker that is to leave drains: at its leisure while nobody waits for its place, else within `preempt_s`,
half of that where high-priority work waits. Until it is gone its place is taken, but for `REPLACEMENTS`.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from chimera.core.scaling import (
    LULL_S,
    UNBOUNDED,
    FleetShape,
    Lately,
    TenantLoad,
    Turns,
    desired_workers,
    needed,
    urgent,
)
from chimera.runtime.backend import Backend
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.store.scripts import OldTerm
from chimera.store.tasks import Keeper
from chimera.store.tenants import TenantRecord

log = structlog.get_logger(__name__)

STARTING_S = 60.0
"""A worker that has not beaten after this long is ended and replaced."""
SILENT_LEASES = 3
"""One that has beaten before and then falls silent gets this many leases."""
REPLACEMENTS = 1
"""Workers that may start before those whose places they take are gone."""
TURN_PREEMPTS = 3
"""A turn lasts this many times `preempt_s`, when tenants take turns: what changes hands is little of it."""


Beats = Mapping[str, Mapping[str, str]]
"""Live workers of a tenant, and what each said at its last heartbeat."""


@dataclass(slots=True)
class Swarm:
    """One tenant's workers in one pass.

    Attributes:
        places: those that hold a place of the fleet and are to stay.
        bridges: the spares that became its workers.
        leaving: those that drain.
    """

    load: TenantLoad
    beats: Beats
    places: set[str] = field(default_factory=set)
    bridges: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)

    @property
    def serving(self) -> bool:
        """Whether a worker with a place beats."""
        return any(worker in self.beats for worker in self.places)

    def least_busy(self, count: int) -> list[str]:
        """So many workers with places, those with the least under way first."""
        ranked = sorted(
            self.places, key=lambda worker: (int(self.beats.get(worker, {}).get("busy", 0)), worker)
        )
        return ranked[: max(0, count)]


async def _no_spare(_: str) -> str | None:
    return None


class Staffing:
    """Snapshot → desired → drain, then start: for those tenants whose workers a role keeps.

    Args:
        spare: gives a tenant that has no worker a spare: its id, or None when there is none.
    """

    def __init__(
        self,
        base: Base,
        elector: Elector,
        backend: Backend,
        role: Keeper,
        bulkhead: Bulkhead,
        spare: Callable[[str], Awaitable[str | None]] = _no_spare,
    ) -> None:
        self._base = base
        self._elector = elector
        self._backend = backend
        self._role = role
        self._bulkhead = bulkhead
        self._spare = spare
        self._started_at: dict[str, float] = {}
        self._lately: dict[str, Lately] = {}
        self._just: dict[str, Lately] = {}
        self._newest: dict[str, int] = {}
        self._turns = Turns(TURN_PREEMPTS * base.settings.preempt_s)
        self._draining: dict[str, float | None] = {}
        """Worker → how long it was given; None for as long as its settings say."""
        self._beat_at: dict[str, float] = {}
        self._tenant_of: dict[str, str] = {}
        self._wanted: dict[str, int] = {}

    async def keep(
        self,
        tenants: Sequence[str],
        records: Mapping[str, TenantRecord],
        existing: Mapping[str, str],
        now: float,
        bound: Mapping[str, str] | None = None,
    ) -> Mapping[str, Swarm]:
        """One pass. The swarms as they were found.

        Args:
            tenants: all that there are.
            records: of these, those that can be read.
            existing: workers that the backend has: id → tenant.
            now: seconds of a clock that only goes forward.
            bound: of them, the spares that became a tenant's.
        """
        bound = bound or {}
        await self._bury(existing)
        swarms: dict[str, Swarm] = {}
        for tenant, record in records.items():
            with self._bulkhead.of(tenant):
                swarms[tenant] = await self._look(tenant, record, existing, bound, now)
        for load in self._turns.note([swarm.load for swarm in swarms.values()], now):
            swarms[load.tenant].load = load
        # Workers of a tenant whose load cannot be told stay, and keep their places.
        holding = [worker for worker in existing if worker not in bound]
        kept = sum(existing[worker] in tenants and existing[worker] not in swarms for worker in holding)
        places = self._base.settings.max_workers or await self._backend.places()
        shape = FleetShape(max(0, places - kept), self._base.settings.slots, self._turns.turn_s)
        loads = [swarm.load for swarm in swarms.values()]
        desired = desired_workers(loads, shape)
        ended = 0
        for swarm in swarms.values():
            with self._bulkhead.of(swarm.load.tenant):
                ended += await self._end_silent(swarm, now)
        room = places + REPLACEMENTS - (len(holding) - ended)
        await self._evacuate(swarms, await self._backend.leaving())
        await self._drain(swarms, desired, shape, room)
        await self._start(swarms, desired, shape, room, now)
        self._forget(tenants, existing)
        return swarms

    async def _look(
        self,
        tenant: str,
        record: TenantRecord,
        existing: Mapping[str, str],
        bound: Mapping[str, str],
        now: float,
    ) -> Swarm:
        """What the tenant has and wants."""
        tasks = self._base.of(tenant).tasks
        beats = await tasks.workers()
        mine = {worker for worker, owner in existing.items() if owner == tenant}
        # An order to drain outlives the controller that gave it.
        leaving = {one for one in mine if one in self._draining or beats.get(one, {}).get("drain") == "1"}
        swarm = Swarm(await self._load(tenant, record, len(mine - leaving - bound.keys()), now), beats)
        swarm.places = mine - leaving - bound.keys()
        swarm.bridges = (mine - leaving) & bound.keys()
        swarm.leaving = leaving
        return swarm

    async def _load(self, tenant: str, record: TenantRecord, workers: int, now: float) -> TenantLoad:
        settings, quota = self._base.settings, record.quota
        if quota.spoke != (self._role == "spoke"):
            return TenantLoad(tenant, backlog=0, running=0, workers=workers)  # they are another's to keep
        backlog, running, high, newest = await self._base.of(tenant).tasks.load()
        if record.suspended:
            backlog = high = 0  # none of it may be claimed
        lately = self._lately.setdefault(tenant, Lately(settings.idle_s))
        just = self._just.setdefault(tenant, Lately(min(LULL_S, settings.idle_s)))
        count = needed(backlog, running, settings.slots)
        # Short tasks may all have come and gone since the last look.
        stirred, self._newest[tenant] = self._newest.get(tenant, newest) != newest, newest
        return TenantLoad(
            tenant=tenant,
            backlog=backlog,
            running=running,
            workers=workers,
            lately=lately.most(count, now),
            just=just.most(max(count, int(stirred)), now),
            weight=quota.weight,
            most=needed(quota.max_agents, 0, settings.slots) if quota.max_agents else UNBOUNDED,
            high=high,
        )

    async def _bury(self, existing: Mapping[str, str]) -> None:
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

    async def _end_silent(self, swarm: Swarm, now: float) -> int:
        """End workers that exist and do not beat: they never came up, or hang. Returns how many had places.

        Leases of a hung one are rescued anyway.
        """
        tenant, ended = swarm.load.tenant, 0
        mine = swarm.places | swarm.bridges
        self._beat_at.update(dict.fromkeys(mine & swarm.beats.keys(), now))
        for worker in sorted(mine - swarm.beats.keys()):
            since, patience_s = self._started_at.setdefault(worker, now), STARTING_S
            if worker in self._beat_at:
                since, patience_s = self._beat_at[worker], SILENT_LEASES * self._base.settings.lease_s
            if now - since > patience_s:
                log.warning("worker.silent", tenant=tenant, worker=worker)
                process = await self._base.of(tenant).tasks.process(worker)
                await self._backend.end(tenant, worker, process)
                ended += worker in swarm.places
                swarm.places.discard(worker)
                swarm.bridges.discard(worker)
        return ended

    async def _evacuate(self, swarms: Mapping[str, Swarm], leaving: set[str]) -> None:
        """Have workers hand back what they hold before their node is gone."""
        for name, swarm in swarms.items():
            with self._bulkhead.of(name):
                for worker in sorted((swarm.places | swarm.bridges) & leaving):
                    swarm.places.discard(worker)
                    swarm.bridges.discard(worker)
                    await self._send_away(swarm, worker, self._base.settings.preempt_s)

    async def _drain(
        self, swarms: Mapping[str, Swarm], desired: Mapping[str, int], shape: FleetShape, room: int
    ) -> None:
        """Tell workers to leave: those over their tenant's number, spares that have done their service."""
        missing = {name: desired[name] - len(swarm.places) for name, swarm in swarms.items()}
        waiting = [swarms[name].load for name, count in missing.items() if count > 0]
        loads = [swarm.load for swarm in swarms.values()]
        scarce = sum(load.wants(shape.slots) > 0 for load in loads) > shape.places
        within_s = self._preempt_s(waiting, loads) if waiting or scarce else None
        short = sum(max(0, count) for count in missing.values()) > room
        for name, swarm in swarms.items():
            with self._bulkhead.of(name):
                for worker in swarm.least_busy(-missing[name]):
                    swarm.places.discard(worker)
                    await self._send_away(swarm, worker, within_s)
                for worker in sorted(swarm.bridges):
                    if self._served(swarm, desired[name]):
                        swarm.bridges.discard(worker)
                        await self._send_away(swarm, worker, None if desired[name] else within_s)
                for worker in sorted(swarm.leaving) if short and within_s is not None else ():
                    if self._draining.get(worker) is None:
                        await self._send_away(swarm, worker, within_s)

    def _preempt_s(self, waiting: Sequence[TenantLoad], loads: Sequence[TenantLoad]) -> float:
        """How long those may stay whose places others wait for; a worker's start is still to come."""
        first = urgent((load for load in loads if load.works), self._turns.turn_s)
        hurried = any(load.tenant in first for load in waiting)
        return self._base.settings.preempt_s / (2 if hurried else 1)

    def _served(self, swarm: Swarm, desired: int) -> bool:
        """Whether a spare may go: a worker with a place is there, nothing was to do for a while, or others'
        turn has come."""
        load = swarm.load
        turn_over = desired == 0 and load.waits_s > self._turns.turn_s
        return swarm.serving or load.lately == 0 or turn_over

    async def _send_away(self, swarm: Swarm, worker: str, within_s: float | None) -> None:
        tenant = swarm.load.tenant
        log.info("worker.draining", tenant=tenant, worker=worker, within_s=within_s)
        await self._base.of(tenant).tasks.drain(
            worker,
            within_s=within_s,
            by=self._elector.replica,
            reason="others wait for its place, or no work",
        )
        swarm.leaving.add(worker)
        self._draining[worker] = within_s

    async def _start(
        self,
        swarms: Mapping[str, Swarm],
        desired: Mapping[str, int],
        shape: FleetShape,
        room: int,
        now: float,
    ) -> None:
        """Give spares to tenants without any worker, and start workers where there is room; urgent first."""
        active = [swarm.load for swarm in swarms.values() if swarm.load.works]
        first = urgent(active, shape.turn_s)
        order = sorted(active, key=lambda load: (load.tenant not in first, load.workers > 0, load.had))
        for load in order:
            tenant, swarm = load.tenant, swarms[load.tenant]
            with self._bulkhead.of(tenant):
                helped = None
                if not swarm.serving and not swarm.bridges and (desired[tenant] or tenant in first):
                    helped = await self._spare(tenant)
                # Small work is done by the time of the next pass: no worker need start for it.
                missing = 0 if helped else desired[tenant] - len(swarm.places)
                for _ in range(max(0, min(missing, room))):
                    worker = f"{tenant}-{uuid.uuid4().hex[:8]}"
                    log.info("worker.starting", tenant=tenant, worker=worker)
                    self._started_at[worker] = now
                    room -= 1
                    await self._backend.start(tenant, worker)
        for tenant, swarm in swarms.items():
            if desired[tenant] != self._wanted.get(tenant):
                with self._bulkhead.of(tenant):
                    await self._record(swarm.load, desired[tenant], scarce=len(active) > shape.places)

    async def _record(self, load: TenantLoad, workers: int, *, scarce: bool) -> None:
        term = self._elector.term
        if term is None:
            return
        why = {"backlog": load.backlog, "running": load.running, "scarce": scarce}
        try:
            await self._base.of(load.tenant).tasks.scaled(
                workers, why=why, term=term, by=self._elector.replica, role=self._role
            )
        except OldTerm:
            log.warning("controller.superseded", term=term)
        self._wanted[load.tenant] = workers

    def _forget(self, tenants: Sequence[str], existing: Mapping[str, str]) -> None:
        """What is known of tenants and workers that are gone."""
        self._lately = {tenant: self._lately[tenant] for tenant in tenants if tenant in self._lately}
        self._just = {tenant: self._just[tenant] for tenant in tenants if tenant in self._just}
        self._newest = {tenant: self._newest[tenant] for tenant in tenants if tenant in self._newest}
        self._wanted = {tenant: self._wanted[tenant] for tenant in tenants if tenant in self._wanted}
        self._draining = {worker: s for worker, s in self._draining.items() if worker in existing}
        self._beat_at = {worker: at for worker, at in self._beat_at.items() if worker in existing}
        self._started_at = {worker: at for worker, at in self._started_at.items() if worker in existing}
