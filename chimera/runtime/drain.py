"""Draining by hand: workers, nodes or the whole fleet finish or hand back what they hold, and leave.

The fleet controller replaces them as there is work: so a new version of agents, or another machine, takes
over without a lease running out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import NamedTuple

from chimera.errors import NotFound
from chimera.store.connection import Redis
from chimera.store.spares import SpareStore
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore

LOOK_S = 0.2


class Leaver(NamedTuple):
    """A worker that is asked to leave; a spare that is nobody's yet has no tenant."""

    tenant: str
    worker: str
    host: str = ""
    busy: int = 0


async def workers(redis: Redis) -> list[Leaver]:
    """All live workers of all tenants."""
    found = []
    for tenant in await TenantStore(redis).names():
        for worker, said in (await TaskStore(redis, tenant).workers()).items():
            host = said.get("process", "").partition("@")[2]
            found.append(Leaver(tenant, worker, host, int(said.get("busy", 0))))
    return found


async def drain(
    redis: Redis, names: Collection[str], *, everything: bool = False, within_s: float | None = None
) -> list[Leaver]:
    """Ask workers to leave: those named, those on hosts that are named, or all, waiting spares among them.

    Args:
        within_s: what is not of high priority is handed back after so long; None for CHIMERA_DRAIN_S.
    Raises:
        NotFound: a name is neither a live worker's nor the host of one; nobody was asked.
    """
    there = await workers(redis)
    known = {one.worker for one in there} | {one.host for one in there}
    if unknown := sorted(set(names) - known):
        raise NotFound(
            f"there is no live worker and no node of workers called {unknown[0]!r}: "
            "`chimera fleet workers` shows them"
        )
    leavers = [one for one in there if everything or one.worker in names or one.host in names]
    for one in leavers:
        await TaskStore(redis, one.tenant).drain(one.worker, within_s=within_s)
    if everything:
        spares = SpareStore(redis)
        for spare, tenant in (await spares.all()).items():
            if not tenant and await spares.dismiss(spare):
                leavers.append(Leaver("", spare))
    return leavers


async def gone(redis: Redis, leavers: Collection[Leaver], *, wait_s: float) -> list[Leaver]:
    """Wait until workers have left, for so long at most. Returns those that have not."""
    left, until = [one for one in leavers if one.tenant], time.monotonic() + wait_s
    while left:
        alive = {one.worker for one in await workers(redis)}
        left = [one for one in left if one.worker in alive]
        if not left or time.monotonic() > until:
            break
        await asyncio.sleep(LOOK_S)  # they tell the store, and nobody else
    return left
