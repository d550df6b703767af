"""B7: what really counts as an agent: a thousand of ten tenants, each with a live lease and a paid call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

from bench.endpoint import COST_MICROUSD
from bench.figure import Figure
from bench.site import Site, paid, seconds, site

TENANTS, AGENTS = 10, 100
CALL_S = 2.0
LOOK_S = 0.1


async def run() -> AsyncIterator[Figure]:
    """Makespan over ideal, live leases, money against what was really called."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(paid(takes_s=CALL_S))
        fleet = await stack.enter_async_context(
            site(max_workers=str(TENANTS), slots=str(AGENTS + 2), idle_s="300", **model)
        )
        tenants = [await stack.enter_async_context(fleet.tenant(f"t{number}")) for number in range(TENANTS)]
        await asyncio.gather(*(one.warm("bench-pay", AGENTS) for one in tenants))
        meter, began = fleet.meter(), time.time()
        watch = Leases(tenants)
        missions = await asyncio.gather(*(one.submit("bench-pay", [1] * AGENTS) for one in tenants))
        ended = await asyncio.gather(
            *(one.done(mission) for one, mission in zip(tenants, missions, strict=True))
        )
        used = meter.stop()
        most = await watch.stop()
        spent = sum([await one.spent(mission) for one, mission in zip(tenants, missions, strict=True)])
    took = max(seconds(one.finished_at, began) for one in ended if one.finished_at)
    method = f"{TENANTS} tenants, {TENANTS} warm workers of {AGENTS} agents, a paid call of {CALL_S:g} s each"
    yield Figure("B7", "makespan over ideal", took / CALL_S, "×", 1.3, method=method)
    yield Figure(
        "B7", "live leases at once", most, "", TENANTS * AGENTS, most=False, method="counted in Redis"
    )
    yield Figure(
        "B7", "overshoot", spent - COST_MICROUSD * TENANTS * AGENTS, "µ$", 0, method="charged − called"
    )
    for kind in sorted(used):
        yield Figure("B7", f"CPU, {kind}", used[kind].cpu_s, "s")
        yield Figure("B7", f"peak resident, {kind}", used[kind].peak_bytes / 2**20, "MiB")


class Leases:
    """Counts live leases of all tenants in Redis until stopped."""

    def __init__(self, tenants: list[Site]) -> None:
        self._tenants, self._most = tenants, 0
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> int:
        """The most there were at once."""
        self._over.set()
        await self._task
        return self._most

    async def _run(self) -> None:
        while not self._over.is_set():
            counts = await asyncio.gather(*(one.leases() for one in self._tenants))
            self._most = max(self._most, sum(counts))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), LOOK_S)
