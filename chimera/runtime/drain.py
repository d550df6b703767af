"""Draining by hand: workers, nodes or the whole fleet finish or hand back what they hold, and leave.

The fleet controller replaces them as there is work: so a new version of agents, or another machine, takes
over without a lease running out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from chimera.errors import InvalidRequest, NotFound
from chimera.store.connection import Redis
from chimera.store.spares import SpareStore
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore

SHORTEST = 4
"""Characters of a node's id by which it may be named: a slip of the hand drains no node."""
LOOK_S = 0.2


class Leaver(NamedTuple):
    """A worker that is asked to leave; a spare that is nobody's yet has no tenant.

    Several nodes may be on one `host`; `node` is the id of its one, "" where there is no cluster.
    """

    tenant: str
    worker: str
    host: str = ""
    node: str = ""
    busy: int = 0


async def workers(redis: Redis) -> list[Leaver]:
    """All live workers of all tenants."""
    found = []
    for tenant in await TenantStore(redis).names():
        for worker, said in (await TaskStore(redis, tenant).workers()).items():
            host = said.get("process", "").partition("@")[2]
            found.append(Leaver(tenant, worker, host, said.get("node", ""), int(said.get("busy", 0))))
    return found


async def drain(
    redis: Redis, names: Collection[str], *, everything: bool = False, within_s: float | None = None
) -> list[Leaver]:
    """Ask workers to leave: those named, those on hosts or nodes that are named, or all, with waiting spares.

    Args:
        names: of workers, of hosts, or the beginnings of nodes' ids, at least `SHORTEST` characters.
        within_s: what is not of high priority is handed back after so long; None for CHIMERA_DRAIN_S.
    Raises:
        NotFound: a name is neither a live worker's nor that of a place where one is; nobody was asked.
        InvalidRequest: several nodes' ids begin so; nobody was asked.
    """
    there = await workers(redis)
    chosen = {one for name in names for one in _called(name, there)}
    leavers = [one for one in there if everything or one in chosen]
    for one in leavers:
        await TaskStore(redis, one.tenant).drain(
            one.worker, within_s=within_s, by="operator", reason="asked to"
        )
    if everything:
        spares = SpareStore(redis)
        for spare, tenant in (await spares.all()).items():
            if not tenant and await spares.dismiss(spare):
                leavers.append(Leaver("", spare))
    return leavers


def _called(name: str, there: Sequence[Leaver]) -> list[Leaver]:
    """The worker of that name, else those on that host, else those on the node whose id begins so."""
    if exact := [one for one in there if one.worker == name] or [one for one in there if one.host == name]:
        return exact
    begun = [one for one in there if len(name) >= SHORTEST and one.node.startswith(name)]
    if not begun:
        raise NotFound(
            f"there is no live worker and no node of workers called {name!r} (of a node's id at least "
            f"{SHORTEST} characters): `chimera fleet workers` shows them"
        )
    if len(nodes := sorted({one.node for one in begun})) > 1:
        raise InvalidRequest(f"{name!r} may be any of these nodes: say more of the id", tuple(nodes))
    return begun


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
