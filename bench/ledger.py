"""B6: what money costs: B1 with a paid call in each task, and with a limit at every level."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from bench.agents import Here
from bench.figure import Figure
from bench.site import Site, seconds, site
from bench.usage import OURS
from chimera.core.money import Window
from chimera.store.fleetledger import FleetLedger
from chimera.store.ledger import Ledger

TASKS = 10_000
WORKERS, SLOTS = 2, 1_000
AMPLE = 10**12
"""A limit that is looked at with every call, and refuses none, µ$."""
PAYS = "bench-pay-here"
EVERY_LEVEL = "bench-pay-here, every level limited"


async def run() -> AsyncIterator[Figure]:
    """Tasks without and with a call; then with a limit at every level."""
    async with site(max_workers=str(WORKERS), slots=str(SLOTS)) as fleet:
        await fleet.fill(WORKERS, SLOTS)
        rates, cpu = {}, {}
        for agent in ("bench-noop", PAYS):
            await fleet.warm(agent)
            rates[agent], cpu[agent] = await _throughput(fleet, agent)
        await _limit_every_level(fleet)
        await fleet.warm(PAYS)
        rates[EVERY_LEVEL], cpu[EVERY_LEVEL] = await _throughput(fleet, PAYS)
    without = rates["bench-noop"]
    method = f"{TASKS:,} tasks, one call each to a fake within the worker that answers at once"
    yield Figure("B6", "tasks a second, a call each", rates[PAYS], "/s", method=method)
    yield Figure("B6", "tasks a second, a call each, every level limited", rates[EVERY_LEVEL], "/s")
    yield Figure("B6", "tasks a second, no call", without, "/s")
    yield Figure("B6", "off by a call", 100 * (1 - rates[PAYS] / without), "%", 25)
    off = 100 * (1 - rates[EVERY_LEVEL] / without)
    yield Figure("B6", "off by a call, every level limited", off, "%", 25)
    for agent, used in cpu.items():
        for kind in OURS:
            if kind in used:
                yield Figure("B6", f"{agent}: CPU a task, {kind}", used[kind], "ms")


async def _limit_every_level(fleet: Site) -> None:
    """Six windows of the tenant, the agent and the model, and of the fleet: 24 limits beside the budget."""
    subjects = ("", f"agent/{PAYS}/", f"model/{Here.name}/")
    limits = {f"{subject}{window}": AMPLE for subject in subjects for window in Window}
    await Ledger(fleet.redis, fleet.name).set_limits(limits, by="bench")
    await FleetLedger(fleet.redis).set_limits(dict.fromkeys(Window, AMPLE), by="bench")


async def _throughput(fleet: Site, agent: str) -> tuple[float, dict[str, float]]:
    meter = fleet.meter()
    began = time.time()
    mission = await fleet.done(await fleet.submit(agent, list(range(TASKS))))
    used = meter.stop()
    assert mission.finished_at
    cpu = {kind: 1e3 * one.cpu_s / TASKS for kind, one in used.items()}
    return TASKS / seconds(mission.finished_at, began), cpu
