"""B6: what money costs: reservations and settlements a second, and B1 with a paid call in each task."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from bench.figure import Figure
from bench.site import Site, seconds, site
from bench.usage import OURS

TASKS = 10_000
WORKERS, SLOTS = 2, 1_000


async def run() -> AsyncIterator[Figure]:
    """The ledger alone, and tasks with and without a call."""
    async with site(max_workers=str(WORKERS), slots=str(SLOTS)) as fleet:
        await fleet.fill(WORKERS, SLOTS)
        rates, cpu = {}, {}
        for agent in ("bench-noop", "bench-pay-here"):
            await fleet.warm(agent)
            rates[agent], cpu[agent] = await _throughput(fleet, agent)
    without, with_call = rates["bench-noop"], rates["bench-pay-here"]
    method = f"{TASKS:,} tasks, one call each to a fake within the worker that answers at once"
    yield Figure("B6", "tasks a second, a call each", with_call, "/s", method=method)
    yield Figure("B6", "tasks a second, no call", without, "/s")
    yield Figure("B6", "off by a call", 100 * (1 - with_call / without), "%", 25)
    for agent, used in cpu.items():
        for kind in OURS:
            if kind in used:
                yield Figure("B6", f"{agent}: CPU a task, {kind}", used[kind], "ms")


async def _throughput(fleet: Site, agent: str) -> tuple[float, dict[str, float]]:
    meter = fleet.meter()
    began = time.time()
    mission = await fleet.done(await fleet.submit(agent, list(range(TASKS))))
    used = meter.stop()
    assert mission.finished_at
    cpu = {kind: 1e3 * one.cpu_s / TASKS for kind, one in used.items()}
    return TASKS / seconds(mission.finished_at, began), cpu
