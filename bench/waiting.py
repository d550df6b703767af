"""B8: what an agent that waits costs, and whether the capacity model foretells two fleets it did not see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from bench.capacity import Costs, Plan, cpu, plan
from bench.figure import Figure
from bench.site import Site, seconds, site
from bench.usage import OURS, Usage

WORKERS, SLOTS = 2, 2_002
TASKS = 10_000
WAITING, WAIT_S, SETTLE_S, LOOK_S = 4_000, 16.0, 3.0, 8.0
POINTS = ((1_000, 2.0, 5), (4_000, 2.0, 3))
"""Agents, seconds of each task, rounds."""
PLANNED, TASK_S = (10_000, 100_000, 1_000_000), 30.0


async def run() -> AsyncIterator[Figure]:
    """CPU and memory of one agent; prediction over measurement; plans."""
    async with site(max_workers=str(WORKERS), slots=str(SLOTS), plan_window="20000") as fleet:
        await fleet.done(await fleet.submit("bench-wait", [0.5] * WAITING))
        costs = await _costs(fleet)
        for kind, amount in sorted(costs.waiting_us.items()):
            yield Figure("B8", f"an agent that waits: CPU a second, {kind}", amount, "µs")
        for kind, amount in sorted(costs.task_us.items()):
            yield Figure("B8", f"a task from submit to accepted: CPU, {kind}", amount, "µs")
        for kind, amount in sorted(costs.idle.items()):
            yield Figure("B8", f"with nothing to do: {kind}", 100 * amount, "% of a core")
        yield Figure("B8", "an agent that waits: resident in its worker", costs.agent_bytes / 1024, "KiB")
        yield Figure("B8", "an open task in Redis", costs.redis_bytes, "bytes")
        for agents, task_s, rounds in POINTS:
            told, seen = await _point(fleet, costs, agents, task_s, rounds)
            yield Figure(
                "B8",
                f"model over measured CPU: {agents:,} agents × {task_s:g} s",
                told / seen,
                "×",
                method=f"{rounds} rounds; {told:.2f} s foretold, {seen:.2f} s of CPU used",
            )
        for agents in PLANNED:
            needs = plan(costs, agents, TASK_S)
            yield Figure(
                "B8",
                f"plan for {agents:,} agents, {TASK_S:g} s tasks: nodes",
                needs.nodes,
                "",
                method=_plan(needs),
            )


async def _costs(fleet: Site) -> Costs:
    """Of a task, by tasks that do nothing; of an agent, while thousands do nothing but wait."""
    meter = fleet.meter()
    await fleet.done(await fleet.submit("bench-noop", list(range(TASKS))))
    used = _ours(meter.stop())
    task_us = {kind: 1e6 * one.cpu_s / TASKS for kind, one in used.items()}

    idle = _ours(await _still(fleet))
    redis_before = await _redis_bytes(fleet)
    mission_id = await fleet.submit("bench-wait", [WAIT_S] * WAITING)
    await fleet.held(WAITING)
    redis_bytes = (await _redis_bytes(fleet) - redis_before) / WAITING
    await asyncio.sleep(SETTLE_S)  # what the claims began has ended
    busy = _ours(await _still(fleet))
    await fleet.done(mission_id)
    waiting_us = {
        kind: max(0.0, 1e6 * (busy[kind].cpu_s - idle.get(kind, Usage()).cpu_s) / LOOK_S / WAITING)
        for kind in busy
    }
    grown = busy["worker"].peak_bytes - idle["worker"].peak_bytes
    return Costs(
        task_us,
        waiting_us,
        idle={kind: one.cpu_s / LOOK_S / (WORKERS if kind == "worker" else 1) for kind, one in idle.items()},
        agent_bytes=max(0.0, grown / WAITING),
        worker_bytes=idle["worker"].peak_bytes / WORKERS,
        redis_bytes=redis_bytes,
    )


async def _still(fleet: Site) -> dict[str, Usage]:
    """What is used while nothing begins or ends."""
    meter = fleet.meter()
    await asyncio.sleep(LOOK_S)
    return meter.stop()


async def _redis_bytes(fleet: Site) -> int:
    return int((await fleet.redis.info("memory"))["used_memory"])


async def _point(fleet: Site, costs: Costs, agents: int, task_s: float, rounds: int) -> tuple[float, float]:
    """CPU seconds as the model has them, and as they were."""
    meter, began = fleet.meter(), time.time()
    mission = await fleet.done(await fleet.submit("bench-wait", [task_s] * agents * rounds))
    seen = sum(one.cpu_s for one in _ours(meter.stop()).values())
    assert mission.finished_at
    took = seconds(mission.finished_at, began)
    told = cpu(costs, agents, agents * rounds / took, WORKERS)
    return took * sum(told.values()), seen


def _ours(used: dict[str, Usage]) -> dict[str, Usage]:
    return {kind: one for kind, one in used.items() if kind in OURS}


def _plan(needs: Plan) -> str:
    hubs = ", ".join(f"{count} {kind}" for kind, count in needs.hubs.items())
    return (
        f"for {needs.workers:,} workers, and {needs.hub_nodes} for {needs.redis_shards} Redis, {hubs}; "
        f"{needs.tasks_a_second:,.0f} tasks/s, {needs.redis_gib:.2f} GiB in Redis, ${needs.usd_hour:.2f}/h; "
        f"first to need more than one: {needs.bottleneck or 'none'}"
    )
