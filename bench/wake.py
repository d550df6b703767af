"""B5: from no worker to the first accepted result, and back to none: cold, with a spare, with a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from bench.figure import Figure, percentile
from bench.site import Site, paid, site
from chimera.store.spares import SpareStore

TRIALS, IDLE_S = 5, 2.0
URGENT, TAKES_S = 20, 2.0
"""Trials of high priority from no node at all, with a paid call that takes so long."""


async def run() -> AsyncIterator[Figure]:
    """Seconds of each way."""
    async with site(idle_s=str(IDLE_S), spares="0") as fleet:
        up, down = await trials(fleet, TRIALS, nothing)
    method = f"{TRIALS} trials on a live node without spares, the first of them cold"
    yield Figure("B5", "zero to first accepted: median", percentile(up, 0.5), "s", 3, method=method)
    yield Figure("B5", "zero to first accepted: max", max(up), "s", 3)
    yield Figure("B5", "back to zero, after idle_s: max", max(down), "s", method=f"idle_s is {IDLE_S:g}")
    async with site(idle_s=str(IDLE_S), spares="1") as fleet:
        up, _ = await trials(fleet, TRIALS, spare_waits)
    method = f"{TRIALS} trials, a spare waits"
    yield Figure("B5", "the same with a spare: median", percentile(up, 0.5), "s", 3, method=method)
    yield Figure("B5", "the same with a spare: max", max(up), "s", 3)
    scaled = {"nodes": "1", "node_idle_s": str(IDLE_S), "idle_s": str(IDLE_S)}
    async with site(spares="0", **scaled) as fleet:
        up, _ = await trials(fleet, 2, no_node)
    method = "2 trials from no node, without spares: Ray's autoscaler starts one"
    yield Figure("B5", "with a node's start: max", max(up), "s", method=method)
    async with paid(TAKES_S) as model, site(spares="1", **scaled, **model) as fleet:
        up, down = await trials(fleet, URGENT, ready_without_nodes, agent="bench-pay", priority="high")
    method = f"{URGENT} trials from no node, a spare waits; a paid call of {TAKES_S:g} s"
    yield Figure("B5", "high priority from no node: median", percentile(up, 0.5), "s", method=method)
    yield Figure("B5", "high priority from no node: p99", percentile(up, 0.99), "s", 10, method=method)


async def trials(
    fleet: Site,
    count: int,
    before: Callable[[Site], Awaitable[None]],
    agent: str = "bench-noop",
    **fields: str,
) -> tuple[list[float], list[float]]:
    """Seconds until the first accepted result, and from there to no worker, of each."""
    up, down = [], []
    for _ in range(count):
        await before(fleet)
        began = time.time()
        mission_id = await fleet.submit(agent, [1], **fields)
        accepted = await fleet.accepted_at({mission_id})
        up.append(accepted[mission_id] - began)
        while await fleet.workers():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)
        down.append(time.time() - accepted[mission_id] - IDLE_S)
    return up, down


async def nothing(_: Site) -> None:
    """Wait for nothing."""


async def spare_waits(fleet: Site) -> None:
    """Wait until a spare waits for a tenant."""
    store = SpareStore(fleet.redis)
    while "" not in (await store.all()).values():  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.05)


async def no_node(fleet: Site) -> None:
    """Wait until no node but the head's is there."""
    while await asyncio.to_thread(fleet.nodes):  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.2)


async def ready_without_nodes(fleet: Site) -> None:
    """Both."""
    await no_node(fleet)
    await spare_waits(fleet)
