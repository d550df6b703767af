"""B2: agents that wait two seconds, two rounds: how much longer than the ideal four it takes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from bench.figure import Figure, percentile
from bench.site import Site, seconds, site
from chimera.core.event import Event

WAIT_S, ROUNDS = 2.0, 2
WORKERS = 4
BARS = {1_000: 1.15, 10_000: 1.6}


async def run() -> AsyncIterator[Figure]:
    """Makespan over ideal, peak concurrency, memory of an agent that waits."""
    for agents, bar in BARS.items():
        slots = -(-agents // WORKERS) + 2
        async with site(max_workers=str(WORKERS), slots=str(slots), plan_window="20000") as fleet:
            await fleet.fill(WORKERS, slots)
            async for figure in _measured(fleet, agents, bar):
                yield figure


async def _measured(fleet: Site, agents: int, bar: float) -> AsyncIterator[Figure]:
    meter = fleet.meter()
    began = time.time()
    mission_id = await fleet.submit("bench-wait", [WAIT_S] * ROUNDS * agents)
    mission = await fleet.done(mission_id)
    used = meter.stop()
    assert mission.finished_at
    took = seconds(mission.finished_at, began)
    name = f"{agents:,} agents"
    method = f"{agents:,} agents × {WAIT_S:g} s, {ROUNDS} rounds, {WORKERS} workers; with submit and judge"
    yield Figure("B2", f"{name}: makespan over ideal", took / (ROUNDS * WAIT_S), "×", bar, method=method)
    events = await fleet.events(mission_id)
    peak = peak_of(events)
    yield Figure("B2", f"{name}: most at once", peak, "", method="claimed and not handed in, by the recorder")
    limit = 4_096 if agents == 10_000 else None
    yield Figure("B2", f"{name}: peak resident", meter.peak_bytes / 2**20, "MiB", limit)
    yield Figure("B2", f"{name}: CPU of workers", used["worker"].cpu_s, "s")
    method = f"from claim to hand-in, beyond the {WAIT_S:g} s that an agent waits, by the recorder"
    late = lags(events, WAIT_S)
    yield Figure("B2", f"{name}: scheduler lag, p50", 1e3 * percentile(late, 0.5), "ms", method=method)
    yield Figure("B2", f"{name}: scheduler lag, p99", 1e3 * percentile(late, 0.99), "ms")
    yield Figure("B2", f"{name}: Redis load", 100 * used["redis"].cpu_s / took, "% of a core")


def lags(events: list[Event], wait_s: float) -> list[float]:
    """Seconds that each task took from its claim to its hand-in beyond what its agent waits."""
    claimed: dict[str, float] = {}
    late = []
    for event in events:
        if event.kind == "task.claimed":
            claimed[event.task_id] = event.at.timestamp()
        elif event.kind == "task.submitted":
            late.append(event.at.timestamp() - claimed[event.task_id] - wait_s)
    return late


def peak_of(events: list[Event]) -> int:
    """The most tasks that were under lease at once."""
    change = {"task.claimed": 1, "task.submitted": -1, "task.erred": -1, "task.timed_out": -1}
    now = most = 0
    for event in events:
        now += change.get(event.kind, 0)
        most = max(most, now)
    return most
